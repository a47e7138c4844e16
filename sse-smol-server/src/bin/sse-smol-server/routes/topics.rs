//! `/topics` and `/topics/{name}`: subscribe, list and delete.

use std::future::Future as _;
use std::task::{Context, Poll, Waker};

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;
use sse_smol_server::{Error, Query, Request, RequestError, Response, Start, Topics, not_allowed};

use super::publications::publish;
use super::reply::{Answer, show};
use crate::guard::Guard;

/// The maximum number of topics in one subscription, which bounds the cost of a request.
const MOST_TOPICS: usize = 32;

/// The prefix of a topic's path, which its name follows.
pub(super) const BELOW: &str = "/topics/";

/// Serves `/topics`. `GET /topics?topic=a&topic=b` subscribes to several topics; without `topic`,
/// the response is a page of the list of topics.
pub(super) fn serve_all(topics: &Topics, request: Request) -> Answer {
    let query = match request.query_pairs() {
        Ok(query) => query,
        Err(error) => return refuse(request, &error),
    };
    let names: Vec<String> = query.all("topic").map(str::to_owned).collect();
    let topics = topics.clone();
    if names.is_empty() {
        return Box::pin(list(topics, request));
    }
    match request.allow(&[Method::GET]) {
        Err(answered) => Box::pin(async { Err(answered) }),
        Ok(()) => subscribe(topics, names, request),
    }
}

async fn list(topics: Topics, request: Request) -> Result<(), Error> {
    let query = request.query_pairs();
    let (after, limit) = match query.as_ref().map_err(RequestError::clone).and_then(page_of) {
        Ok(page) => page,
        Err(error) => return refuse(request, &error).await,
    };
    let page = match topics.list(after, limit).await {
        Ok(page) => page,
        Err(error) => return request.respond(Error::from(error).response()).await,
    };
    let rows = page.topics.into_iter().map(|topic| {
        json!({
            "name": topic.name,
            "subscribers": topic.subscribers,
            "events": topic.events,
            "published": topic.published,
            "bytes": topic.bytes,
            "last_id": topic.last_id,
        })
    });
    let list = json!({ "topics": rows.collect::<Vec<_>>(), "next": page.next });
    show(request, "application/json", format!("{list}\n").into_bytes()).await
}

/// Returns the page of the list that a query selects: the name after which it starts, and its
/// maximum length.
fn page_of(query: &Query) -> Result<(Option<&str>, usize), RequestError> {
    let limit = match query.only("limit")?.map(str::parse) {
        None => Topics::MAX_PAGE,
        Some(Ok(limit)) if (1..=Topics::MAX_PAGE).contains(&limit) => limit,
        Some(_) => {
            return Err(RequestError::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "The query parameter limit must be a number from 1 to {}.",
                    Topics::MAX_PAGE
                ),
            ));
        }
    };
    Ok((query.only("after")?, limit))
}

/// Serves `/topics/{name}`: `GET` subscribes, `POST` publishes, `DELETE` deletes the events.
pub(super) fn serve(topics: &Topics, guard: &Guard, request: Request) -> Answer {
    match *request.method() {
        Method::POST => match guard.check_publisher(&request) {
            Some(answer) => Box::pin(request.respond(answer)),
            None => match name(&request) {
                Ok(name) => Box::pin(publish(topics.clone(), name, request)),
                Err(why) => bad(request, why),
            },
        },
        Method::DELETE => match guard.check_publisher(&request) {
            Some(answer) => Box::pin(request.respond(answer)),
            None => Box::pin(delete(topics.clone(), request)),
        },
        Method::GET | Method::HEAD => match name(&request) {
            Ok(name) => subscribe(topics.clone(), vec![name], request),
            Err(why) => bad(request, why),
        },
        _ => Box::pin(request.respond(not_allowed("GET, HEAD, POST, DELETE"))),
    }
}

/// Returns the topic name in the path. It is decoded, since some clients encode more than they have
/// to, and checked only when it is used.
fn name(request: &Request) -> Result<String, &'static str> {
    let name = request.path().strip_prefix(BELOW).unwrap_or_default();
    percent_decode_str(name).decode_utf8().map(Into::into).map_err(|_| {
        "The topic in the path is not UTF-8: names are 1 to 128 characters from A-Z a-z 0-9 . _ ~ -."
    })
}

/// Answers with the response to an error, and with the headers that the request has for it.
fn refuse(request: Request, error: &RequestError) -> Answer {
    Box::pin(request.respond(error.response()))
}

fn bad(request: Request, why: &str) -> Answer {
    Box::pin(request.respond(RequestError::new(StatusCode::BAD_REQUEST, why).response()))
}

fn subscribe(topics: Topics, names: Vec<String>, request: Request) -> Answer {
    // A future of its own, which is dropped when the stream is open: a stream may be open for days.
    let mut subscribed = Box::pin(begin(topics, names, request));
    // Without a storage, it is ready now, and needs no future around both.
    match subscribed.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => Box::pin(async move { subscribed.await.await }),
    }
}

/// Subscribes, and returns the rest of the answer.
async fn begin(topics: Topics, names: Vec<String>, request: Request) -> Answer {
    if names.len() > MOST_TOPICS {
        let line = format!("A subscription can have at most {MOST_TOPICS} topics.");
        return bad(request, &line);
    }
    let id = match request.last_event_id() {
        Ok(id) => id,
        Err(error) => return refuse(request, &error),
    };
    let start = match id.as_str() {
        "" | "latest" => Start::Latest,
        "earliest" => Start::Earliest,
        id => Start::After(id),
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match topics.subscribe(&names, start).await {
        Ok(mut subscription) => Box::pin(async move {
            let missed = subscription.ready();
            let mut stream = request.open_with(missed).await?;
            stream.follow(subscription).await
        }),
        Err(error) => Box::pin(request.respond(Error::from(error).response())),
    }
}

async fn delete(topics: Topics, request: Request) -> Result<(), Error> {
    let name = match name(&request) {
        Ok(name) => name,
        Err(why) => return bad(request, why).await,
    };
    match topics.delete(&name).await {
        Ok(true) => {
            let mut response = Response::new(Vec::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            request.respond(response).await
        }
        Ok(false) => {
            let line = format!("The topic {name} holds no events.");
            request.respond(RequestError::new(StatusCode::NOT_FOUND, line).response()).await
        }
        Err(error) => request.respond(Error::from(error).response()).await,
    }
}
