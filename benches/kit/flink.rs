//! The same query on Flink SQL, over the SQL gateway that `tests/kit/flink.sh` started. Rule: Flink is favoured: one
//! TaskManager, warmed up, no checkpoints, and only its TaskManager's time counts.

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::Result;
use super::usage::Process;
use super::watch::Took;

/// The variable under which `tests/kit/flink.sh with` names its folder.
const FLINK: &str = "PRESCALE_BENCH_FLINK";
const PAUSE: Duration = Duration::from_millis(100);

/// A session on a cluster.
pub(crate) struct Flink {
    agent: ureq::Agent,
    gateway: String,
    rest: String,
    session: String,
    task_manager: Process,
    pub(crate) version: String,
}

/// What Flink reads and writes.
pub(crate) struct Job<'a> {
    pub(crate) bootstrap_servers: &'a str,
    pub(crate) requests: &'a str,
    pub(crate) features: &'a str,
}

impl Flink {
    /// The cluster that the environment names, if it does.
    pub(crate) fn given() -> Result<Option<Self>> {
        let Some(dir) = std::env::var(FLINK).ok().filter(|dir| !dir.is_empty()) else { return Ok(None) };
        let read = |name: &str| -> Result<String> {
            let path = Path::new(&dir).join(name);
            let text = std::fs::read_to_string(&path).map_err(|error| format!("read `{}`: {error}", path.display()))?;
            Ok(text.trim().to_owned())
        };
        let mut flink = Self {
            agent: ureq::Agent::config_builder().http_status_as_error(false).build().into(),
            gateway: read("gateway.url")?,
            rest: read("rest.url")?,
            session: String::new(),
            task_manager: Process::Other(read("taskmanager.pid")?.parse()?),
            version: String::new(),
        };
        flink.version = text(&flink.get(&format!("{}/v1/info", flink.gateway))?, "/version")?;
        let url = format!("{}/v1/sessions", flink.gateway);
        // An INSERT then answers when its job has ended.
        let properties = json!({"properties": {"table.local-time-zone": "UTC", "table.dml-sync": "true"}});
        flink.session = text(&flink.post(&url, &properties)?, "/sessionHandle")?;
        Ok(Some(flink))
    }

    /// Count, mean and 99th percentile by service and minute, from one topic into the other.
    pub(crate) fn tumble(&self, job: &Job<'_>) -> Result<Took> {
        let Job { bootstrap_servers, requests, features } = job;
        self.run("DROP TABLE IF EXISTS requests")?;
        self.run("DROP TABLE IF EXISTS features")?;
        self.run(&format!(
            "CREATE TABLE requests (
                ts TIMESTAMP_LTZ(3), service STRING, `type` STRING, route STRING, priority STRING, status INT,
                latency_ms DOUBLE, `bytes` BIGINT, instance STRING, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
            ) WITH ('connector' = 'kafka', 'topic' = '{requests}', 'properties.group.id' = '{requests}-flink',
                'properties.bootstrap.servers' = '{bootstrap_servers}', 'scan.startup.mode' = 'earliest-offset',
                'scan.bounded.mode' = 'latest-offset', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601')"
        ))?;
        self.run(&format!(
            "CREATE TABLE features (
                service STRING, window_start TIMESTAMP(3), window_end TIMESTAMP(3), requests BIGINT,
                latency_ms_avg DOUBLE, latency_ms_p99 DOUBLE
            ) WITH ('connector' = 'kafka', 'topic' = '{features}', 'format' = 'json',
                'properties.bootstrap.servers' = '{bootstrap_servers}', 'json.timestamp-format.standard' = 'ISO-8601')"
        ))?;
        let before = self.task_manager.cpu_seconds()?;
        let id = self.run(
            "INSERT INTO features
            SELECT service, window_start, window_end, count(*), avg(latency_ms), percentile(latency_ms, 0.99)
            FROM TABLE(TUMBLE(TABLE requests, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
            GROUP BY service, window_start, window_end",
        )?;
        let cpu = self.task_manager.cpu_seconds()? - before;
        let id = id.ok_or("Flink named no job")?;
        let said = self.get(&format!("{}/jobs/{id}", self.rest))?;
        if said["state"] != "FINISHED" {
            return Err(format!("Flink's job {id} ended as {}", said["state"]).into());
        }
        let milliseconds = said["duration"].as_f64().ok_or("Flink's job has no duration")?;
        Ok(Took { wall: milliseconds / 1e3, cpu })
    }

    /// Runs a statement to its end; the id of its job, if it had one.
    fn run(&self, statement: &str) -> Result<Option<String>> {
        let session = format!("{}/v1/sessions/{}", self.gateway, self.session);
        let operation = self.post(&format!("{session}/statements"), &json!({"statement": statement}))?;
        let operation = text(&operation, "/operationHandle")?;
        let (mut token, mut job) = (0, None);
        loop {
            let url = format!("{session}/operations/{operation}/result/{token}?rowFormat=JSON");
            let result = self.get(&url)?;
            // An INSERT gives its job's id as a row where it does not wait for it, and beside the rows where it does.
            job = result["jobID"].as_str().map(str::to_owned).or(job);
            match result["resultType"].as_str() {
                Some("EOS") => return Ok(job),
                Some("NOT_READY") => thread::sleep(PAUSE),
                _ => {
                    if result["results"]["data"].as_array().is_none_or(Vec::is_empty) {
                        thread::sleep(PAUSE);
                    }
                    token += 1;
                }
            }
        }
    }

    fn get(&self, url: &str) -> Result<Value> {
        let mut answer = self.agent.get(url).call()?;
        accepted(url, answer.status().as_u16(), &answer.body_mut().read_to_string()?)
    }

    fn post(&self, url: &str, body: &Value) -> Result<Value> {
        let request = self.agent.post(url).header("content-type", "application/json");
        let mut answer = request.send(body.to_string())?;
        accepted(url, answer.status().as_u16(), &answer.body_mut().read_to_string()?)
    }
}

fn accepted(url: &str, status: u16, body: &str) -> Result<Value> {
    if status != 200 {
        let cause = body.rsplit("Caused by: ").next().unwrap_or(body);
        return Err(
            format!("Flink answered {url} with {status}: {}", cause.chars().take(600).collect::<String>()).into()
        );
    }
    Ok(serde_json::from_str(body)?)
}

fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    Ok(found.ok_or_else(|| format!("Flink's answer has no {pointer}: {value}"))?.to_owned())
}
