//! A stream that stands still while a real Prometheus goes on. Rule: more capacity comes at once, none goes, and where both are
//! silent everything is held and that is said.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prescale_decide::recompute;
use prescale_domain::{Decision, DecisionKind, Span};

use crate::kit;
use crate::trouble::{Live, has_reason};

/// Serves two loads as an exporter does, for a Prometheus to scrape; gives its port.
pub(crate) fn exporter(load: &Arc<AtomicU64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let load = Arc::clone(load);
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let Ok(_) = stream.read(&mut request) else { continue };
            let load = load.load(Ordering::Relaxed);
            let body = format!("load{{service=\"checkout\"}} {load}\nload{{service=\"idle\"}} 20\n");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n";
            let length = body.len();
            drop(write!(stream, "{head}content-length: {length}\r\n\r\n{body}"));
        }
    });
    port
}

/// A Prometheus that scrapes `port` each second.
pub(crate) fn prometheus(program: &str, folder: &Path, port: u16) -> (kit::Running, String) {
    let config = folder.join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n- job_name: shop\n  static_configs:\n  - targets: ['127.0.0.1:{port}']\n"
    );
    std::fs::write(&config, text).unwrap();
    let own = kit::free_port();
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{own}"));
    let running = kit::Running::spawn(command, &folder.join("log"));
    let url = format!("http://127.0.0.1:{own}");
    kit::wait_for("a scraped load", Duration::from_secs(60), || {
        kit::try_http_get(&format!("{url}/api/v1/query?query=load")).filter(|(_, body)| body.contains("checkout"))
    });
    (running, url)
}

/// Decisions that are due come seldom: what comes at once comes for its own sake.
const SELDOM: &str = "[policy]\ndecision_interval = \"30s\"\nfast_interval = \"2s\"\n";
const AFTER: Span = Span::from_secs(5);
/// One turn of the fast loop, and what a machine at work takes besides.
const AT_ONCE: Span = Span::from_secs(2 + 2);

#[test]
fn heavy_a_stream_that_stands_still_takes_its_load_from_prometheus_and_only_upwards() {
    let (Some(kafka), Some(program)) = (kit::kafka(), kit::prometheus()) else { return };
    let (folder, load) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(30)));
    let (mut server, url) = prometheus(&program, folder.path(), exporter(&load));
    let target = |initial: u32| {
        format!(
            "{{ kind = \"simulated\", fleet = {{ initial = {initial} }} }}\nfallback = {{ kind = \"prometheus\", \
             url = \"{url}\", query = \"load\", service_label = \"service\", after = \"5s\", fresh_for = \"6s\" }}"
        )
    };
    let live =
        Live::new(&kafka, "fallback", "act").with(SELDOM).service("checkout", &target(2)).service("idle", &target(0));
    kit::create_topic(&kafka, &live.topic("requests"), 1);
    let mut running = live.start();

    // From zero, of a service that the stream has never spoken of: 20 / 5 / 0.7.
    let woken = live.wait_for_decision_of("idle", "waking", |decision| has_reason(decision, "fallback-need"));
    assert_eq!(woken["desired"], 6, "{woken}");

    live.send(&kafka, 12);
    let fed = live.wait_for_decision("a decision on the stream", |decision| {
        !decision["need"].is_null() && !has_reason(decision, "fallback-need")
    });
    assert!(fed["desired"].as_u64().is_some_and(|units| units < 29), "{fed}");
    // The stream stands still while the load is three times as high: 100 / 5 / 0.7.
    load.store(100, Ordering::Relaxed);
    let raised = live.wait_for_decision("more by Prometheus", |decision| decision["desired"] == 29);
    assert!(has_reason(&raised, "fallback-need"), "{raised}");
    assert_eq!(raised["inputs"]["circumstances"]["fallback"]["load"], 100.0, "{raised}");
    let explained = kit::run(&["explain", "-c", &live.config(), raised["id"].as_str().unwrap()]);
    assert_eq!(explained.code, Some(0), "{}", explained.stderr);
    assert!(explained.stdout.contains("identical"), "{}", explained.stdout);

    // Less load takes nothing away, and nor does a Prometheus that is gone.
    load.store(1, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(5));
    server.kill();
    let held = live.wait_for_decision("holding without both", |decision| has_reason(decision, "fallback-missing"));
    assert_eq!((held["desired"].as_u64(), held["kind"].as_str()), (Some(29), Some("none")), "{held}");
    let status = kit::wait_for("the alert", Duration::from_secs(30), || {
        let (_, status) = live.get("/api/v1/snapshot")?;
        status.contains("(unreachable)").then_some(status)
    });
    assert!(status.contains("prometheus tells no load") && status.contains("29 units held"), "{status}");
    assert!(running.printed().contains("ERROR"), "{}", running.printed());
    let (_, metrics) = live.get("/metrics").unwrap();
    assert!(metrics.contains("prescale_controller_load_source{service=\"checkout\"} 2"), "{metrics}");

    // The stream is back and has the word again.
    live.send(&kafka, 12);
    live.wait_for_decision("a decision on the stream again", |decision| {
        !decision["need"].is_null() && !has_reason(decision, "fallback-missing")
    });
    running.kill();

    let decisions = live.decisions(&kafka);
    let said = |decision: &Decision, code: &str| decision.reasons.iter().any(|reason| reason.code == code);
    for decision in &decisions {
        assert!(recompute(decision).is_ok(), "{}", decision.id);
        if said(decision, "fallback-need") || said(decision, "fallback-missing") {
            assert_ne!(decision.kind, DecisionKind::ScaleDown, "{}", decision.id);
        }
    }
    let by_prometheus = |decision: &&Decision| decision.service.as_str() == "checkout" && decision.desired == 29;
    let first = decisions.iter().find(by_prometheus).unwrap();
    let silent = first.at.since(first.inputs.load_window_end.unwrap());
    assert!(silent <= AFTER + AT_ONCE, "{silent} after the last window");
    assert_eq!(first.inputs.circumstances.fallback.as_ref().map(|told| told.source.as_str()), Some("prometheus"));
    let woken = decisions.iter().find(|decision| decision.service.as_str() == "idle" && decision.desired == 6).unwrap();
    assert_eq!(woken.inputs.target.map(|target| target.desired), Some(0), "{}", woken.id);
    assert_eq!(woken.kind, DecisionKind::ScaleUp, "{}", woken.id);
}
