//! Publishing and subscribing over HTTP.

mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;
use support::{Binary, get, read_head, read_response, read_until, send};

/// Sends a request with these headers, each ended by CRLF. Returns status, head and body.
fn request(address: SocketAddr, line: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut socket = send(
        address,
        &format!(
            "{line} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        ),
    );
    socket.write_all(body.as_bytes()).unwrap();
    read_response(&mut socket)
}

fn publish(address: SocketAddr, target: &str, headers: &str, body: &str) -> String {
    let (status, _, answer) = request(address, &format!("POST {target}"), headers, body);
    assert_eq!(status, 201, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["id"].as_str().unwrap().to_owned()
}

fn subscribe(address: SocketAddr, target: &str, last_event_id: &str) -> TcpStream {
    let header = match last_event_id {
        "" => String::new(),
        id => format!("Last-Event-ID: {id}\r\n"),
    };
    let mut socket =
        send(address, &format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{header}\r\n"));
    let head = read_head(&mut socket);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    socket
}

/// Returns the next event with data, skipping the ID of the starting position.
fn next(socket: &mut TcpStream) -> String {
    let chunk = read_until(socket, "\n\n\r\n");
    let (_, event) = chunk.split_once("\r\n").unwrap();
    let event = event.trim_end_matches("\n\n\r\n").to_owned();
    if event.contains("data: ") { event } else { next(socket) }
}

#[test]
fn events_are_published_by_body_headers_query_and_json() {
    let server = Binary::start(&[]);
    let address = server.address;
    let mut socket = subscribe(address, "/topics/news", "");
    let id = publish(address, "/topics/news", "", "two\nlines");
    assert_eq!(next(&mut socket), format!("id: {id}\ndata: two\ndata: lines"));

    publish(address, "/topics/news", "Event-Type: note\r\nEvent-Id: n1\r\nEvent-Retry: 5\r\n", "a");
    assert_eq!(next(&mut socket), "event: note\nid: n1\nretry: 5\ndata: a");

    publish(address, "/topics/news?type=a%20b&id=n2&retry=7", "", "");
    assert_eq!(next(&mut socket), "event: a b\nid: n2\nretry: 7\ndata: ");

    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let body = r#"{"data":"x\ny","type":"t","id":"n3","retry":9}"#;
    publish(address, "/topics/news", json, body);
    assert_eq!(next(&mut socket), "event: t\nid: n3\nretry: 9\ndata: x\ndata: y");

    // JSON data is passed on byte for byte.
    let id = publish(
        address,
        "/topics/news",
        json,
        r#"{"data":{"b":1.10,"a":12345678901234567890123}}"#,
    );
    assert_eq!(
        next(&mut socket),
        format!("id: {id}\ndata: {{\"b\":1.10,\"a\":12345678901234567890123}}")
    );

    let id = publish(address, "/topics/n%65ws", "", "encoded");
    assert_eq!(next(&mut socket), format!("id: {id}\ndata: encoded"));

    // Without the JSON content type, the body is data.
    let id = publish(address, "/topics/news", "", r#"{"data":1}"#);
    assert_eq!(next(&mut socket), format!("id: {id}\ndata: {{\"data\":1}}"));
}

#[test]
fn a_repeated_publication_is_reported_as_a_duplicate() {
    let server = Binary::start(&[]);
    let id = publish(server.address, "/topics/a", "Idempotency-Key: k1\r\n", "once");
    let post = |headers| request(server.address, "POST /topics/a?key=k1", headers, "once");
    for headers in ["", "Idempotency-Key: k1\r\n"] {
        let (status, _, answer) = post(headers);
        assert_eq!(status, 200);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((answer["id"].as_str(), &answer["duplicate"]), (Some(&*id), &Value::Bool(true)));
    }
    // A key that was used for a different event is rejected with the ID of that event.
    for (target, body) in [
        ("POST /topics/a?key=k1", "twice"),
        ("POST /topics/a?key=k1&type=t", "once"),
        ("POST /topics/a?key=k1&retry=1", "once"),
        ("POST /topics/a?key=k1&id=own", "once"),
    ] {
        let (status, _, answer) = request(server.address, target, "", body);
        assert!(status == 422 && answer.contains(&id), "{target}: {status} {answer}");
    }
    for _ in 0..2 {
        publish(server.address, "/topics/b?key=", "", "without a key");
    }
    let mut socket = subscribe(server.address, "/topics/a", "earliest");
    assert_eq!(next(&mut socket), format!("id: {id}\ndata: once"));
    publish(server.address, "/topics/a", "", "after");
    assert!(next(&mut socket).ends_with("data: after"));
}

#[test]
fn subscribers_resume_by_header_or_query_and_the_header_has_precedence() {
    let server = Binary::start(&["--history", "3"]);
    let address = server.address;
    let ids: Vec<String> =
        (0..5).map(|n| publish(address, "/topics/a", "", &n.to_string())).collect();
    let data = |socket: &mut TcpStream| next(socket).split("data: ").nth(1).unwrap().to_owned();

    let mut socket = subscribe(address, "/topics/a", &ids[3]);
    assert_eq!(data(&mut socket), "4");
    let mut socket = subscribe(address, &format!("/topics/a?lastEventId={}", ids[2]), "");
    assert_eq!(data(&mut socket), "3");
    let mut socket = subscribe(address, &format!("/topics/a?lastEventId={}", ids[1]), &ids[3]);
    assert_eq!(data(&mut socket), "4");
    let mut socket = subscribe(address, "/topics/a?lastEventId=earliest", "");
    assert_eq!([(); 3].map(|()| data(&mut socket)), ["2", "3", "4"]);

    let mut live = [
        subscribe(address, "/topics/a", ""),
        subscribe(address, "/topics/a", "latest"),
        subscribe(address, "/topics/a", &ids[4]),
    ];
    // An evicted or unknown ID gets a gap event first.
    let mut gaps = [
        (subscribe(address, "/topics/a", &ids[0]), "evicted"),
        (subscribe(address, "/topics/a", "from-elsewhere"), "unknown"),
    ];
    publish(address, "/topics/a", "", "5");
    for socket in &mut live {
        assert_eq!(data(socket), "5");
    }
    for (socket, reason) in &mut gaps {
        let gap = next(socket);
        assert!(gap.starts_with("event: gap\nid: "), "{gap}");
        let data_of_gap = gap.split("data: ").nth(1).unwrap();
        let gap: Value = serde_json::from_str(data_of_gap).unwrap();
        assert_eq!(gap["reason"], *reason);
        assert_eq!(
            (&gap["earliest"], &gap["latest"]),
            (&ids[2].clone().into(), &ids[4].clone().into())
        );
        assert_eq!([(); 4].map(|()| data(socket)), ["2", "3", "4", "5"]);
    }
}

#[test]
fn several_topics_are_one_stream_with_one_cursor() {
    let server = Binary::start(&["--gap-type", "resync"]);
    let address = server.address;
    let mut live = subscribe(address, "/topics?topic=a&topic=b&topic=a", "");
    let ids: Vec<String> = ["a", "b", "c", "b", "a"]
        .iter()
        .map(|name| publish(address, &format!("/topics/{name}"), "", name))
        .collect();
    let data = |socket: &mut TcpStream| next(socket).split("data: ").nth(1).unwrap().to_owned();
    assert_eq!([(); 4].map(|()| data(&mut live)), ["a", "b", "b", "a"]);
    let mut resumed = subscribe(address, "/topics?topic=a&topic=b", &ids[1]);
    assert_eq!([(); 2].map(|()| data(&mut resumed)), ["b", "a"]);
    // IDs are ordered over all topics, so the ID of another topic is a valid cursor.
    let mut other = subscribe(address, "/topics?topic=b", &ids[2]);
    assert_eq!(data(&mut other), "b");
    let mut stray = subscribe(address, "/topics?topic=a&topic=b", "x");
    assert!(next(&mut stray).starts_with("event: resync\n"));

    let (status, _, list) = request(address, "GET /topics", "", "");
    assert_eq!(status, 200);
    let list: Value = serde_json::from_str(&list).unwrap();
    let b = &list["topics"][1];
    assert_eq!(
        (&b["name"], &b["events"], &b["last_id"]),
        (&"b".into(), &2.into(), &ids[3].clone().into())
    );
    assert_eq!((&b["subscribers"], &b["published"]), (&4.into(), &2.into()));
}

#[test]
fn invalid_publications_are_rejected_with_the_reason() {
    let server = Binary::start(&["--max-topics", "2", "--max-body", "100"]);
    let address = server.address;
    publish(address, "/topics/a", "Event-Id: taken\r\n", "x");
    let json = "Content-Type: application/json\r\n";
    for (target, headers, body, status, reason) in [
        ("/topics/a%20b", "", "x", 400, "topic \"a b\": names are 1 to 128"),
        ("/topics/a%FF", "", "x", 400, "not UTF-8: names are 1 to 128"),
        ("/topics/a?key=%ff", "", "x", 400, "query parameter \"key\" is not UTF-8"),
        ("/topics/a?%fe=x", "", "x", 400, "name of a query parameter is not UTF-8"),
        ("/topics/a?id=x&id=x", "", "x", 400, "more than one parameter \"id\""),
        ("/topics/a", "Event-Id: x\r\nEvent-Id: x\r\n", "x", 400, "more than one header event-id"),
        (
            "/topics/a",
            "Content-Type: text/plain\r\nContent-Type: application/json\r\n",
            "{}",
            400,
            "more than one header content-type",
        ),
        ("/topics/a", "Content-Encoding: gzip\r\n", "x", 415, "Content-Encoding"),
        ("/topics/a", "Content-Encoding: identity, br\r\n", "x", 415, "Content-Encoding"),
        ("/topics/a", "Expect: 200-ok\r\n", "x", 417, "100-continue"),
        ("/topics/", "", "x", 400, "names are 1 to 128"),
        ("/topics/a?type=a%0Ab", "", "x", 400, "event type holds a line feed at byte 1"),
        ("/topics/a?id=a%0Db", "", "x", 400, "event id holds a carriage return"),
        ("/topics/a?id=a%00b", "", "x", 400, "event id holds a NUL"),
        ("/topics/a?id=latest", "", "x", 400, "neither earliest, latest"),
        ("/topics/a?id=taken", "", "x", 409, "in the log"),
        (&format!("/topics/a?type={}", "t".repeat(4097)), "", "x", 400, "4097 bytes"),
        ("/topics/a?retry=soon", "", "x", 400, "not a whole number of milliseconds"),
        ("/topics/a?retry=-1", "", "x", 400, "not a whole number of milliseconds"),
        ("/topics/a", json, "nonsense", 400, "in JSON"),
        ("/topics/a", json, "{}", 400, "missing field `data`"),
        ("/topics/a", json, r#"{"data":"x","tpye":"y"}"#, 400, "unknown field `tpye`"),
        ("/topics/a", json, r#"{"data":"x","type":"a\nb"}"#, 400, "line feed"),
        ("/topics/a", json, r#"["hello","alert","id-7",100,"k"]"#, 400, "not an object"),
        ("/topics/a", json, " \n[]", 400, "not an object"),
        ("/topics/a", json, "\"hello\"", 400, "not an object"),
        ("/topics/a", json, "null", 400, "not an object"),
        ("/topics/a", json, "7", 400, "not an object"),
        ("/topics/a", json, "", 400, "in JSON"),
        ("/topics/a", json, r#"{"data":"x","data":"y"}"#, 400, "duplicate field `data`"),
        ("/topics/a", json, r#"{"data":"x","id":"y","id":"y"}"#, 400, "duplicate field `id`"),
        ("/topics/a", json, r#"{"data":"x"} {}"#, 400, "in JSON"),
        ("/topics/a", "", &"x".repeat(101), 413, "max_body"),
    ] {
        let (got, _, answer) = request(address, &format!("POST {target}"), headers, body);
        assert_eq!(got, status, "{target} {body}: {answer}");
        assert!(answer.contains(reason), "{target} {body}: {answer}");
    }
    let mut socket = send(
        address,
        &format!("POST /topics/a HTTP/1.1\r\nHost: {address}\r\nContent-Length: 3\r\n\r\n"),
    );
    socket.write_all(b"a\xFFb").unwrap();
    let (status, _, answer) = read_response(&mut socket);
    assert!(status == 400 && answer.contains("not UTF-8 text: see byte 1"), "{answer}");

    publish(address, "/topics/b", "Content-Encoding: Identity\r\n", "x");
    assert_eq!(request(address, "POST /topics/c", "", "x").0, 429);
    // Subscribers do not count towards `max_topics`.
    subscribe(address, "/topics/c", "");
    assert_eq!(request(address, "PUT /topics/a", "", "").0, 405);
    assert_eq!(request(address, "PUT /score", "", "").0, 405);
    let many = "topic=a&".repeat(33);
    assert_eq!(request(address, &format!("GET /topics?{many}"), "", "").0, 400);
}

/// Lossy decoding would make different keys equal.
#[test]
fn invalid_utf_8_is_rejected_in_targets_and_headers() {
    let dir = std::env::temp_dir();
    let server = Binary::start(&["--serve", dir.to_str().unwrap()]);
    let address = server.address;
    for target in [
        "/topics/a?lastEventId=%ff",
        "/topics/a?other=%ff",
        "/topics/a?%c3%28=x",
        "/topics/%ff",
        "/topics?topic=%ff",
        "/__hotreload?lastEventId=%ff",
    ] {
        let (status, _, answer) = request(address, &format!("GET {target}"), "", "");
        assert!(status == 400 && answer.contains("not UTF-8"), "{target}: {answer}");
    }
    for path in ["/topics/a", "/topics?topic=a", "/__hotreload"] {
        let mut socket = send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n"));
        socket.write_all(b"Last-Event-ID: a\xFFb\r\n\r\n").unwrap();
        let (status, _, answer) = read_response(&mut socket);
        assert!(status == 400 && answer.contains("Last-Event-ID is not UTF-8"), "{answer}");
    }
    // An invalid percent escape is literal text; non-ASCII text is accepted.
    let mut socket = subscribe(address, "/topics/a", "");
    publish(address, "/topics/a?type=%zz%f&id=%C3%A9", "", "x");
    assert_eq!(next(&mut socket), "event: %zz%f\nid: \u{e9}\ndata: x");
}

#[test]
fn the_last_of_several_last_event_ids_in_a_query_counts() {
    let server = Binary::start(&[]);
    let address = server.address;
    let ids = ["0", "1", "2"].map(|data| publish(address, "/topics/a", "", data));
    let target = format!("/topics/a?lastEventId={}&x=y&lastEventId={}", ids[0], ids[1]);
    let mut socket = subscribe(address, &target, "");
    assert!(next(&mut socket).ends_with("data: 2"));
    let target = format!("/topics/a?lastEventId=earliest&lastEventId={}", ids[0]);
    let mut socket = subscribe(address, &target, &ids[1]);
    assert!(next(&mut socket).ends_with("data: 2"), "the header has precedence");
}

#[test]
fn metrics_are_in_the_format_that_the_client_asks_for() {
    let server = Binary::start(&[]);
    publish(server.address, "/topics/a", "", "x");
    let get = |accept: &str| request(server.address, "GET /metrics", accept, "");
    for accept in ["", "Accept: */*\r\n", "Accept: text/plain;version=0.0.4;q=1,*/*;q=0.1\r\n"] {
        let (status, head, body) = get(accept);
        assert_eq!(status, 200);
        assert!(
            head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{head}"
        );
        assert!(head.contains("Vary: Accept\r\n"), "{head}");
        assert!(body.contains("# TYPE sse_events_published_total counter\n"), "{body}");
        assert!(body.contains("# HELP sse_events_published_total "), "{body}");
        assert!(body.contains("# TYPE sse_topics gauge\n") && !body.contains("# EOF"), "{body}");
        // Each sample has the metadata of its own name.
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(body.contains(&format!("# TYPE {name} ")), "{name} in {body}");
        }
    }
    let prometheus = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,\
        text/plain;version=0.0.4;q=0.2,*/*;q=0.1\r\n";
    let (_, head, body) = get(prometheus);
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("# TYPE sse_events_published counter\n"), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[test]
fn the_health_check_responds_and_metrics_count_streams() {
    let server = Binary::start(&[]);
    let address = server.address;
    assert_eq!(request(address, "GET /healthz", "", "").2, "ok\n");
    publish(address, "/topics/a", "", "x");
    let mut socket = subscribe(address, "/topics/a", "unknown");
    next(&mut socket);
    next(&mut socket);
    let (status, head, _) = request(address, "GET /metrics", "", "");
    assert!(status == 200 && head.contains("text/plain; version=0.0.4"), "{head}");
    let open = [
        "sse_streams 1",
        "sse_connections 2",
        "sse_topics 1",
        "sse_subscriptions 1",
        "sse_events_held 1",
        "sse_events_published_total 1",
        "sse_gaps_total 1",
    ];
    wait_for_metrics(address, &open);
    drop(socket);
    let ended = "sse_streams_ended_total{reason=\"peer_closed\"} 1";
    wait_for_metrics(
        address,
        &["sse_streams 0", "sse_connections 1", "sse_subscriptions 0", ended],
    );
    let (_, _, metrics) = request(address, "GET /metrics", "", "");
    assert!(metrics.contains("sse_requests_total{reason=\"answered\"} "), "{metrics}");
}

/// Waits until the metrics contain these lines. The end of a stream or request may be counted
/// slightly after the client has seen it.
fn wait_for_metrics(address: SocketAddr, lines: &[&str]) {
    let start = Instant::now();
    loop {
        let (_, _, metrics) = request(address, "GET /metrics", "", "");
        if lines.iter().all(|line| metrics.lines().any(|have| have == *line)) {
            return;
        }
        assert!(start.elapsed() < support::TIMEOUT, "{lines:?} in {metrics}");
    }
}

#[test]
fn the_demo_routes_stream_and_end() {
    let server = Binary::start(&[]);
    let address = server.address;
    let mut socket = get(address, "/async");
    read_head(&mut socket);
    assert_eq!(next(&mut socket), r#"data: {"result":42}"#);
    assert_eq!(next(&mut socket), r#"data: {"result":100}"#);
    assert_eq!(next(&mut socket), "event: end\nid: end\ndata: {}");
    assert_eq!(read_until(&mut socket, "0\r\n\r\n"), "0\r\n\r\n");
    // Both streams have ended permanently.
    for (path, last) in [("/async", "end"), ("/counter", "9")] {
        let (status, _, _) =
            request(address, &format!("GET {path}"), &format!("Last-Event-ID: {last}\r\n"), "");
        assert_eq!(status, 204, "{path}");
    }
    let mut socket = subscribe(address, "/counter", "8");
    assert_eq!(next(&mut socket), "event: counter\nid: 9\ndata: 9");
    let mut socket = subscribe(address, "/clock", "");
    assert!(next(&mut socket).ends_with(" GMT"));
    for path in ["/score", "/metrics.json"] {
        let (_, head, plain) = request(address, &format!("GET {path}"), "", "");
        assert!(head.contains("application/json") && plain.starts_with('{'), "{head}{plain}");
        let mut socket = subscribe(address, &format!("{path}?stream=true"), "");
        assert!(next(&mut socket).starts_with("data: {"));
    }
}

#[test]
fn the_fifth_stream_of_an_address_is_logged_once() {
    let server = Binary::start(&[]);
    let mut sockets: Vec<_> = (0..4).map(|_| subscribe(server.address, "/topics/a", "")).collect();
    sockets.push(subscribe(server.address, "/topics/a", ""));
    drop(sockets);
    let (_, _, log) = server.stop("-TERM");
    assert_eq!(log.matches("127.0.0.1 holds 5 streams over HTTP/1.1").count(), 1, "{log}");
}

#[test]
fn the_list_of_topics_comes_in_pages() {
    let server = Binary::start(&[]);
    let address = server.address;
    let names: Vec<String> = (0..7).map(|n| format!("topic-{n}")).collect();
    for name in &names {
        publish(address, &format!("/topics/{name}"), "", "x");
    }
    let page = |query: &str| {
        let (status, _, body) = request(address, &format!("GET /topics{query}"), "", "");
        assert_eq!(status, 200, "{query}: {body}");
        let list: Value = serde_json::from_str(&body).unwrap();
        let rows = list["topics"].as_array().unwrap().iter();
        let names: Vec<String> = rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect();
        (names, list["next"].as_str().map(str::to_owned))
    };
    assert_eq!(page(""), (names.clone(), None));
    assert_eq!(page("?limit=3"), (names[..3].to_vec(), Some(names[2].clone())));
    assert_eq!(page("?limit=3&after=topic-2"), (names[3..6].to_vec(), Some(names[5].clone())));
    assert_eq!(page("?limit=3&after=topic-5"), (names[6..].to_vec(), None));
    assert_eq!(page("?limit=7"), (names.clone(), None));
    for bad in ["0", "1001", "-1", "x", "", "99999999999999999999"] {
        let (status, _, body) = request(address, &format!("GET /topics?limit={bad}"), "", "");
        assert!(status == 400 && body.contains("from 1 to 1000"), "{bad}: {status} {body}");
    }
}

/// Subscribing to topics without events leaves their places to publishers, and rejected requests
/// create no topic.
#[test]
fn subscribers_do_not_count_towards_max_topics() {
    let server = Binary::start(&["--max-topics", "3", "--history-age", "1"]);
    let address = server.address;
    let sockets: Vec<_> = (0..10)
        .map(|n| {
            let names: Vec<String> = (0..32).map(|m| format!("topic=stray-{n}-{m}")).collect();
            subscribe(address, &format!("/topics?{}", names.join("&")), "")
        })
        .collect();
    for _ in 0..2 {
        for name in ["a", "b", "c"] {
            publish(address, &format!("/topics/{name}"), "", "x");
        }
        assert_eq!(request(address, "POST /topics/d", "", "x").0, 429);
        std::thread::sleep(std::time::Duration::from_millis(1200));
    }
    let total = |count: usize| wait_for_metrics(address, &[&format!("sse_topics {count}")]);
    total(320);
    for (line, headers, status) in [
        ("HEAD /topics/refused", "", 200),
        ("GET /topics/refused", "Accept: image/png\r\n", 406),
        ("PUT /topics/refused", "", 405),
        ("POST /topics?topic=refused", "", 405),
    ] {
        let socket = &mut send(
            address,
            &format!("{line} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: 0\r\n\r\n"),
        );
        let head = read_head(socket);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {head}");
    }
    total(320);
    drop(sockets);
    total(0);
}

#[test]
fn data_above_the_default_limit_of_decoders_is_rejected() {
    let server = Binary::start(&["--max-body", "20000000", "--history-bytes", "100000000"]);
    let most = 16 << 20;
    let (status, _, answer) = request(server.address, "POST /topics/a", "", &"x".repeat(most + 1));
    assert!(status == 413 && answer.contains("16777216"), "{status} {answer}");
    publish(server.address, "/topics/a", "", &"x".repeat(most));
}
