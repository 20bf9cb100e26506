//! Whole rounds, against this machine and an engine of canned answers on a port.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prescale_domain::SystemClock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// What was written, for a test to look at.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn records(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn of(&self, service: &str, name: &str) -> Vec<f64> {
        let records =
            self.records().into_iter().filter(|record| record["service"] == service && record["name"] == name);
        records.map(|record| record["value"].as_f64().unwrap()).collect()
    }
}

/// An engine with two containers, one of which is gone before it is asked. From look to look the other works for half a second, in
/// which the machine's two processors have two seconds together.
struct FakeEngine {
    host: String,
    server: JoinHandle<()>,
}

impl FakeEngine {
    async fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn listen(listener: TcpListener) -> Self {
        let host = format!("tcp://{}", listener.local_addr().unwrap());
        let looks = Arc::new(AtomicU64::new(0));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, Arc::clone(&looks)));
            }
        });
        Self { host, server }
    }

    fn settings(&self) -> AgentSettings {
        AgentSettings { docker: DockerUse::On, docker_host: self.host.clone(), ..AgentSettings::default() }
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn converse(mut stream: TcpStream, looks: Arc<AtomicU64>) {
    let mut request = Vec::new();
    let mut some = [0; 4096];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut some).await {
            Ok(count) if count > 0 => request.extend(&some[..count]),
            _ => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let (status, body) = answer(&path, &looks);
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
}

fn answer(path: &str, looks: &AtomicU64) -> (&'static str, Value) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if path.ends_with("/version") {
        return ("200 OK", json!({"ApiVersion": "1.41", "Version": "20.10.24"}));
    }
    if path.ends_with("/containers/json") {
        let label = |service: &str| json!({"prescale.service": service});
        let web = json!({"Id": "aaaaaaaaaaaaaaaa", "Names": ["/web-1"], "Image": "shop:3", "Labels": label("web")});
        let gone = json!({"Id": "bbbbbbbbbbbbbbbb", "Names": ["/gone-1"], "Image": "shop:3", "Labels": label("gone")});
        return ("200 OK", json!([web, gone]));
    }
    if path.contains("bbbb") {
        return ("404 Not Found", json!({"message": "No such container: bbbbbbbbbbbbbbbb"}));
    }
    if path.ends_with("/stats") {
        assert_eq!(query, "stream=false&one-shot=true");
        let look = looks.fetch_add(1, Ordering::Relaxed);
        let cpu = json!({"cpu_usage": {"total_usage": look * 500_000_000}, "online_cpus": 2,
            "system_cpu_usage": (look + 1) * 2_000_000_000});
        return ("200 OK", json!({"cpu_stats": cpu, "memory_stats": {"usage": 50, "limit": 200}}));
    }
    (
        "200 OK",
        json!({"Id": "aaaaaaaaaaaaaaaa", "State": {"StartedAt": "2026-11-27T11:00:00Z"}, "HostConfig": {"NanoCpus": 0}}),
    )
}

#[tokio::test]
async fn one_round_is_the_machine_and_its_containers() {
    let engine = FakeEngine::start().await;
    let (page, stop) = (Page::default(), CancellationToken::new());
    let settings = AgentSettings { once: true, ..engine.settings() };
    let before = SystemClock.now();
    let summary = run(&settings, &SystemClock, &mut Outlet::lines(page.clone()), &stop).await.unwrap();
    let records = page.records();
    assert_eq!(summary, Summary { rounds: 1, records: records.len() as u64, given_up: 0 });
    // Half a second of the two that its processors had together: half of one processor, a quarter of both.
    assert_eq!(page.of("web", "cpu_utilization"), [25.0]);
    assert_eq!(page.of("web", "cpu_cores"), [0.5]);
    assert_eq!(page.of("web", "memory_utilization"), [25.0]);
    assert!(records.iter().all(|record| record["service"] != "gone"), "{records:?}");
    let [cpu] = page.of("host", "cpu_utilization")[..] else { panic!("{records:?}") };
    assert!((0.0..=100.0).contains(&cpu), "{cpu}");
    assert_eq!(page.of("host", "memory_total_bytes").len(), 1);
    for record in &records {
        let ts: prescale_domain::Timestamp = record["ts"].as_str().unwrap().parse().unwrap();
        assert!(before <= ts && ts <= SystemClock.now(), "{record}");
    }
}

#[tokio::test]
async fn rounds_come_until_it_is_stopped_and_an_engine_may_come_and_go() {
    let engine = FakeEngine::start().await;
    let address = engine.host.trim_start_matches("tcp://").to_owned();
    let (page, stop) = (Page::default(), CancellationToken::new());
    let settings = AgentSettings { interval: Span::from_secs(1), docker: DockerUse::Auto, ..engine.settings() };
    let (its_page, its_stop) = (page.clone(), stop.clone());
    let agent =
        tokio::spawn(
            async move { run(&settings, &SystemClock, &mut Outlet::lines(its_page), &its_stop).await.unwrap() },
        );
    let until = async |enough: &dyn Fn() -> bool| {
        for _ in 0..1000 {
            if enough() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}", page.records());
    };
    until(&|| page.of("web", "cpu_utilization").len() >= 2).await;
    drop(engine);
    let rounds = page.of("host", "cpu_utilization").len();
    until(&|| page.of("host", "cpu_utilization").len() >= rounds + 2).await;
    let without = page.of("web", "memory_utilization").len();
    // Another one at its place: its counters began anew, which is no rate.
    let _engine = FakeEngine::listen(TcpListener::bind(address).await.unwrap());
    until(&|| page.of("web", "memory_utilization").len() >= without + 2).await;
    stop.cancel();
    let summary = agent.await.unwrap();
    assert!(summary.rounds >= 6, "{summary:?}");
    assert_eq!(summary.records, page.records().len() as u64);
    assert!(page.of("web", "cpu_utilization").iter().all(|percent| *percent == 25.0), "{:?}", page.records());
}

#[tokio::test]
async fn without_an_engine_auto_goes_on_and_on_does_not_begin() {
    // A port that nothing listens on.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let settings = |docker| AgentSettings {
        docker,
        docker_host: format!("tcp://127.0.0.1:{port}"),
        service: ServiceName::new("vm"),
        once: true,
        ..AgentSettings::default()
    };
    let (page, stop) = (Page::default(), CancellationToken::new());
    run(&settings(DockerUse::Auto), &SystemClock, &mut Outlet::lines(page.clone()), &stop).await.unwrap();
    assert_eq!(page.of("vm", "memory_utilization").len(), 1);
    let refused = run(&settings(DockerUse::On), &SystemClock, &mut Outlet::lines(page.clone()), &stop).await;
    assert!(matches!(&refused, Err(CollectError::Engine { .. })), "{refused:?}");
}

/// A reader that has gone away.
struct Closed;

impl io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_in_order() {
    let settings = AgentSettings { docker: DockerUse::Off, ..AgentSettings::default() };
    let summary = run(&settings, &SystemClock, &mut Outlet::lines(Closed), &CancellationToken::new()).await.unwrap();
    assert_eq!(summary, Summary::default());
}

#[test]
fn settings_that_cannot_be_are_told() {
    let wrong = AgentSettings {
        interval: Span::from_millis(10),
        service: ServiceName::new(" "),
        docker_host: "here".to_owned(),
        ..AgentSettings::default()
    };
    assert_eq!(wrong.faults().len(), 3, "{:?}", wrong.faults());
    assert_eq!(AgentSettings { docker: DockerUse::Off, ..wrong }.faults().len(), 2);
    assert_eq!(AgentSettings::default().faults(), Vec::<String>::new());
}
