//! Wakers that drop their task on the waking thread. The library must not call or drop a waker, a
//! hook, or a value of a handler while it holds a lock.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use sse_proto::Event;
use sse_smol_server::{
    Config, Error, EventStream, History, Publication, Request, Server, Start, Subscription, Topics,
    TopicsConfig,
};
use support::subscriber::Subscriber;
use support::{TIMEOUT, get, now, read_head, read_to_end, serve};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task that is dropped by the thread that wakes it.
struct DroppedWhenWoken {
    task: Mutex<Option<Task>>,
    dropped: Arc<AtomicUsize>,
}

impl DroppedWhenWoken {
    /// Polls a task once and keeps it until it is woken.
    fn spawn(task: Task, dropped: &Arc<AtomicUsize>) -> Arc<Self> {
        let new = Arc::new(Self { task: Mutex::new(None), dropped: Arc::clone(dropped) });
        let mut task = task;
        let waker = Waker::from(Arc::clone(&new));
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            *new.task.lock().unwrap() = Some(task);
        }
        new
    }
}

impl Wake for DroppedWhenWoken {
    fn wake(self: Arc<Self>) {
        let task = self.task.lock().unwrap().take();
        if task.is_some() {
            drop(task);
            self.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Runs a test on another thread. Panics if it does not return in time.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, on_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    match on_done.recv_timeout(TIMEOUT) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("deadlock"),
        _ => thread.join().unwrap(),
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..TIMEOUT.as_millis() / 5 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("deadlock, or still waiting until {what}");
}

fn publish(topics: &Topics, data: &str) {
    now(topics.publish("news", Publication::new(data))).unwrap();
}

fn small_history() -> Topics {
    let history = History::default().with_events(2).with_bytes(64 << 20);
    Topics::new(TopicsConfig::default().with_history(history).with_max_bytes(256 << 20)).unwrap()
}

#[test]
fn a_subscription_may_be_dropped_by_the_publisher_that_wakes_it() {
    in_time(|| {
        let (topics, dropped) = (small_history(), Arc::default());
        let tasks: Vec<_> = [&["news"][..], &["news", "other"], &["a", "news"]]
            .into_iter()
            .map(|names| {
                let mut subscription = now(topics.subscribe(names, Start::Latest)).unwrap();
                DroppedWhenWoken::spawn(
                    Box::pin(async move {
                        while let Ok(frames) = subscription.next_batch().await {
                            drop(frames);
                        }
                    }),
                    &dropped,
                )
            })
            .collect();
        assert_eq!(topics.totals().subscriptions, 5);
        publish(&topics, "x");
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        assert_eq!((topics.totals().subscriptions, topics.totals().topics), (0, 1));
        drop(tasks);
    });
}

/// Follows a topic on a task that is dropped when it is woken, while the handler of the request
/// stays pending.
async fn follow_elsewhere(
    request: Request,
    subscription: Subscription,
    dropped: Arc<AtomicUsize>,
) -> Result<(), Error> {
    let mut stream = request.open().await?;
    let task = Box::pin(async move {
        let _ = stream.follow(subscription).await;
    });
    let _task = DroppedWhenWoken::spawn(task, &dropped);
    std::future::pending().await
}

fn followers(topics: &Topics, dropped: &Arc<AtomicUsize>) -> support::Running {
    let (topics, dropped) = (topics.clone(), Arc::clone(dropped));
    serve(Config::default(), move |request| {
        let subscription = now(topics.subscribe(&["news"], Start::Latest)).unwrap();
        follow_elsewhere(request, subscription, Arc::clone(&dropped))
    })
}

/// Unparking a stream drops its task. Streams are unparked because the log has dropped events,
/// because the socket buffers are full, and because the client has closed.
#[test]
fn a_parked_stream_may_be_dropped_when_it_is_woken() {
    const CLIENTS: usize = 8;
    type Cause = fn(&Topics, Vec<Subscriber>) -> Vec<Subscriber>;
    let lagged: Cause = |topics, clients| {
        (0..100).for_each(|n| publish(topics, &n.to_string()));
        clients
    };
    let too_much: Cause = |topics, clients| {
        publish(topics, &"x".repeat(15 << 20));
        clients
    };
    let left: Cause = |_, clients| {
        drop(clients);
        Vec::new()
    };
    for cause in [lagged, too_much, left] {
        let (topics, dropped) = (small_history(), Arc::default());
        let server = Box::leak(Box::new(followers(&topics, &dropped)));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut client = Subscriber::open(server.address, "/");
                client.read_until("the start of the stream", |one| !one.text.is_empty());
                client
            })
            .collect();
        let publisher = topics.clone();
        let (done, on_done) = mpsc::channel();
        thread::spawn(move || done.send(cause(&publisher, clients)));
        let clients = on_done.recv_timeout(TIMEOUT).expect("no deadlock of the publisher");
        // Each task is dropped, and the server still serves.
        wait_until("all tasks are dropped", || topics.totals().subscriptions == 0);
        read_head(&mut get(server.address, "/"));
        drop(clients);
    }
}

/// A stream that is used in the destructor of its owner.
struct UsedOnDrop(EventStream);

impl Drop for UsedOnDrop {
    fn drop(&mut self) {
        self.0.token();
    }
}

/// The driver wakes a pending send when the queue is empty, which drops the send.
#[test]
fn a_send_may_be_dropped_when_it_is_woken() {
    let dropped: Arc<AtomicUsize> = Arc::default();
    let counter = Arc::clone(&dropped);
    let server = Box::leak(Box::new(serve(Config::default(), move |request: Request| {
        let counter = Arc::clone(&counter);
        async move {
            let data = "x".repeat(15 << 20);
            let mut stream = UsedOnDrop(request.open().await?);
            let task = Box::pin(async move {
                let _ = stream.0.send(Event::new(&data)).await;
            });
            let _task = DroppedWhenWoken::spawn(task, &counter);
            std::future::pending().await
        }
    })));
    for round in 1..3 {
        let mut client = Subscriber::open(server.address, "/");
        client.read_until("the event", |one| one.events.len() == 1);
        wait_until("the send is dropped", || dropped.load(Ordering::SeqCst) == round);
    }
}

/// A waker may own a task, so a replaced waker must be dropped without a lock.
#[test]
fn a_replaced_waker_may_drop_its_task() {
    struct Holds(Mutex<Option<Task>>);
    impl Wake for Holds {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Holds {
        fn drop(&mut self) {
            drop(self.0.lock().unwrap().take());
        }
    }
    /// Returns a task that waits for events of two topics.
    fn waiting(topics: &Topics) -> Task {
        let mut subscription = now(topics.subscribe(&["news", "other"], Start::Latest)).unwrap();
        drop(subscription.ready());
        let mut task: Task = Box::pin(async move {
            let _ = subscription.next_batch().await;
        });
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        task
    }
    in_time(|| {
        let topics = small_history();
        let mut task = waiting(&topics);
        for _ in 0..3 {
            let waker = Waker::from(Arc::new(Holds(Mutex::new(Some(waiting(&topics))))));
            assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(task);
        assert_eq!(topics.totals().subscriptions, 0);
    });
}

#[test]
fn a_task_that_waits_for_the_drain_may_be_dropped_by_the_thread_that_begins_it() {
    in_time(|| {
        let server = Server::bind("127.0.0.1:0", Config::default()).unwrap();
        let (drain, dropped) = (server.drain(), Arc::default());
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let drain = drain.clone();
                DroppedWhenWoken::spawn(Box::pin(async move { drain.begun().await }), &dropped)
            })
            .collect();
        drain.begin();
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        drop(tasks);
    });
}

#[test]
fn a_task_that_waits_for_a_token_may_be_dropped_by_the_stream_that_ends() {
    in_time(|| {
        let dropped = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&dropped);
        let server = serve(Config::default(), move |request| {
            let dropped = Arc::clone(&counted);
            async move {
                let stream = request.open().await?;
                let token = stream.token();
                let task = Box::pin(async move { token.cancelled().await });
                // Kept until the waker drops it.
                drop(DroppedWhenWoken::spawn(task, &dropped));
                Ok(())
            }
        });
        let mut socket = get(server.address, "/");
        read_head(&mut socket);
        assert_eq!(read_to_end(&mut socket), "0\r\n\r\n");
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}
