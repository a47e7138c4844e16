//! The files of the page.

use support::{get, read_head};

use super::*;

#[test]
fn the_page_and_its_files_are_served_with_a_content_security_policy() {
    let server = Binary::start(&[]);
    let base = "/__sse/page";
    for (path, content_type) in [
        ("/", "text/html"),
        (&*format!("{base}/main.js"), "text/javascript"),
        (&format!("{base}/topics.js"), "text/javascript"),
        (&format!("{base}/style.css"), "text/css"),
    ] {
        let head = read_head(&mut get(server.address, path));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {head}");
        assert!(
            head.contains(&format!("Content-Type: {content_type}; charset=utf-8\r\n")),
            "{head}"
        );
        assert!(head.contains("Content-Security-Policy: default-src 'none'; "), "{path}: {head}");
        assert!(head.contains("Cache-Control: no-cache\r\n"), "{path}: {head}");
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            server.address
        );
        assert_eq!(read_response(&mut send(server.address, &request)).0, 405, "{path}");
    }
    for path in ["", "/", "/index.html", "/../page/main.js", "/main.js/"] {
        let head = read_head(&mut get(server.address, &format!("{base}{path}")));
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
    }
}
