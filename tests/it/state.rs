//! Where state is kept, on a real S3 protocol and on disks that are full or damaged. Rule: a write is whole or absent, an
//! error names what it is about, and what was read before an error is neither lost nor counted twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prescale_store::{BucketStore, RedbStore, Store, StoreError, Table, Write};
use serde_json::Value;

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};
use crate::kit::wire::{State, Wire};

const LARGE: usize = 100_000;

fn put(key: &str, value: Vec<u8>) -> Write {
    Write { table: Table::Outbox, key: key.as_bytes().to_vec(), value: Some(value) }
}

/// A bucket of one test alone, and its URL at that endpoint.
#[track_caller]
fn bucket(endpoint: &str) -> (String, String) {
    let name = kit::unique("state");
    kit::boto3(&format!(
        "s3.create_bucket(Bucket='{name}', CreateBucketConfiguration={{'LocationConstraint': 'eu-west-1'}})"
    ));
    let url = format!("s3://{name}/some/prefix?endpoint={endpoint}&region=eu-west-1");
    (name, url)
}

/// Names and sizes of all objects of a bucket.
#[track_caller]
fn objects(bucket: &str) -> BTreeMap<String, u64> {
    let listed = kit::boto3(&format!(
        "result = {{one['Key']: one['Size'] for one in s3.list_objects_v2(Bucket='{bucket}').get('Contents', [])}}"
    ));
    serde_json::from_value(listed).unwrap()
}

#[test]
fn a_bucket_of_s3_holds_what_was_written_and_shuts_out_the_older_process() {
    let Some(moto) = kit::moto() else { return };
    let (bucket, url) = bucket(&moto);
    let older = BucketStore::open(&url).unwrap();
    older.write(&[put("a", vec![1; LARGE]), put("b", b"small".to_vec())]).unwrap();
    older.write(&[put("a", vec![2; LARGE]), Write { table: Table::Outbox, key: b"b".to_vec(), value: None }]).unwrap();
    let newer = BucketStore::open(&url).unwrap();
    assert_eq!(newer.get(Table::Outbox, b"a").unwrap(), Some(vec![2; LARGE]));
    assert_eq!(newer.get(Table::Outbox, b"b").unwrap(), None);
    for _ in 0..2 {
        let error = older.write(&[put("a", vec![9; LARGE])]).unwrap_err();
        assert!(matches!(error, StoreError::Fenced { own: 1, found: 2, .. }), "{error}");
        assert!(error.to_string().contains(&format!("s3://{bucket}/some/prefix")), "{error}");
    }
    newer.write(&[put("c", b"newer".to_vec())]).unwrap();
    drop((older, newer));
    let last = BucketStore::open(&url).unwrap();
    assert_eq!(last.get(Table::Outbox, b"a").unwrap(), Some(vec![2; LARGE]));
    assert_eq!(last.get(Table::Outbox, b"c").unwrap(), Some(b"newer".to_vec()));
    drop(last);
    // One value that is not small: whatever else was put is cleaned up, also what the older process put too late.
    let left = objects(&bucket);
    assert_eq!(left.keys().filter(|name| name.starts_with("some/prefix/objects/")).count(), 1, "{left:?}");
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn damaged_objects_of_s3_and_a_bucket_that_is_not_there_are_named() {
    let Some(moto) = kit::moto() else { return };
    let (bucket, url) = bucket(&moto);
    BucketStore::open(&url).unwrap().write(&[put("a", vec![1; LARGE])]).unwrap();
    let object = objects(&bucket).into_keys().find(|name| name.contains("/objects/")).unwrap();
    let replace = |name: &str, bytes: &str| {
        kit::boto3(&format!("s3.put_object(Bucket='{bucket}', Key='{name}', Body=b'{bytes}')"))
    };
    replace(&object, "cut");
    let error = BucketStore::open(&url).err().unwrap().to_string();
    assert!(error.contains(&object) && error.contains("3 bytes, 100000 were written"), "{error}");
    replace("some/prefix/manifest", "no manifest, and long enough to be one as far as its length goes");
    let error = BucketStore::open(&url).err().unwrap().to_string();
    assert!(error.contains("some/prefix/manifest") && error.contains("is damaged"), "{error}");

    let missing = url.replace(&bucket, &format!("{bucket}-missing"));
    let error = BucketStore::open(&missing).err().unwrap();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
}

#[test]
fn an_endpoint_that_is_down_or_swallows_answers_loses_nothing() {
    let Some(moto) = kit::moto() else { return };
    let wire = Wire::to(&moto);
    let (bucket, url) = bucket(&wire.url());
    let store = BucketStore::open(&url).unwrap();
    store.write(&[put("a", b"before".to_vec())]).unwrap();
    for state in [State::Cut, State::Deaf] {
        wire.set(state);
        let write = [put("a", format!("{state:?}").into_bytes()), put("b", vec![state as u8; LARGE])];
        let error = store.write(&write).unwrap_err();
        assert!(error.is_passing(), "{error}");
        assert_ne!(store.get(Table::Outbox, b"a").unwrap(), Some(format!("{state:?}").into_bytes()));
        wire.set(State::Whole);
        store.write(&write).unwrap();
        assert_eq!(store.get(Table::Outbox, b"a").unwrap(), Some(format!("{state:?}").into_bytes()));
    }
    drop(store);
    let store = BucketStore::open(&url).unwrap();
    assert_eq!(store.get(Table::Outbox, b"b").unwrap(), Some(vec![State::Deaf as u8; LARGE]));
    drop(store);
    assert_eq!(objects(&bucket).len(), 2);
}

/// Requests of twenty minutes, one a second, on `topic`; the samples of the shipped pipeline do for the rest.
#[track_caller]
fn fill(kafka: &str, topic: &str, minutes: std::ops::Range<i64>) {
    let line = |second: i64| {
        let time = chrono::DateTime::from_timestamp(1_767_225_600 + second, 0).unwrap();
        let time = time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        format!(
            r#"{{"ts":"{time}","service":"web-{}","status":200,"latency_ms":{},"bytes":1}}"#,
            second % 3,
            second % 50
        )
    };
    kit::produce(kafka, topic, 0, (minutes.start * 60..minutes.end * 60).map(line));
}

struct Replay {
    setup: Setup,
    input: String,
}

impl Replay {
    #[track_caller]
    fn new(kafka: &str, name: &str, more: &str) -> Self {
        let input = kit::unique(name);
        kit::create_topic(kafka, &input, 1);
        let settings = format!(
            "mode = \"observe\"\n[features]\npipelines = [\"requests.sql\"]\nsources = {{ requests = \"{input}\" }}\n{more}"
        );
        let sql = std::fs::read_to_string(kit::root().join("pipelines/requests.sql")).unwrap();
        let setup = Setup::new(kafka, name).file("requests.sql", &sql).with(&settings).service("web-1", 1.0, SIMULATED);
        Self { setup, input }
    }

    fn command(&self) -> Command {
        kit::prescale(&["run", "-c", &self.setup.config(), "--clock", "event", "--until-end", "--json"])
    }

    #[track_caller]
    fn start(&self) -> kit::Running {
        let config = self.setup.config();
        kit::Running::start(&["run", "-c", &config, "--clock", "event"], &self.setup.path("log"))
    }

    /// Waits for the windows of all minutes but the last to be written.
    #[track_caller]
    fn wait_for(&self, kafka: &str, minutes: i64) {
        let counted = || self.rows(kafka).values().sum::<u64>();
        let expected = (minutes - 1) as u64 * 60;
        kit::wait_for(&format!("{minutes} minutes"), Duration::from_secs(60), || (counted() == expected).then_some(()));
    }

    /// Runs to the end of the input, which is `minutes` long, and checks that each row was counted once.
    #[track_caller]
    fn check(&self, kafka: &str, minutes: i64) {
        let minutes = minutes as u64;
        let output = self.command().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["pipelines"]["requests"]["windowed"], minutes * 60, "{summary}");
        let rows = self.rows(kafka);
        assert_eq!((rows.len() as u64, rows.values().sum::<u64>()), (minutes * 3, minutes * 60));
    }

    /// Requests by service and window, each of which is written once.
    #[track_caller]
    fn rows(&self, kafka: &str) -> BTreeMap<(String, String), u64> {
        let mut rows = BTreeMap::new();
        for record in kit::consume(kafka, &self.setup.topic("features")).iter().map(kit::Record::json) {
            let Some(requests) = record["requests"].as_u64() else { continue };
            let key = (record["service"].to_string(), record["window_start"].to_string());
            assert_eq!(rows.insert(key, requests), None, "a second copy: {record}");
        }
        rows
    }
}

#[test]
fn heavy_a_pipeline_with_checkpoints_in_s3_waits_for_it_and_goes_on_elsewhere_after_a_kill() {
    let (Some(kafka), Some(moto)) = (kit::kafka(), kit::moto()) else { return };
    let wire = Wire::to(&moto);
    let (_, url) = bucket(&wire.url());
    let replay = Replay::new(&kafka, "bucket", &format!("[state]\ncheckpoints = \"{url}\"\n"));
    fill(&kafka, &replay.input, 0..10);
    let mut running = replay.start();
    replay.wait_for(&kafka, 10);
    wire.set(State::Cut);
    fill(&kafka, &replay.input, 10..20);
    kit::wait_for("the outage to be told", Duration::from_secs(90), || {
        running.printed().contains("can't be reached").then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    replay.wait_for(&kafka, 10); // Nothing is written that is not saved.
    wire.set(State::Whole);
    replay.wait_for(&kafka, 20);
    running.kill();
    // The disk of that machine is gone.
    std::fs::remove_dir_all(replay.setup.path("state")).unwrap();
    fill(&kafka, &replay.input, 20..30);
    let mut first = replay.start();
    replay.wait_for(&kafka, 30);

    // Another process takes over; the first says so and ends.
    let second = BucketStore::open(&url).unwrap();
    fill(&kafka, &replay.input, 30..35);
    let status = first.finish(Duration::from_secs(60));
    assert!(!status.success());
    assert!(first.printed().contains("another process has taken it over"), "{}", first.printed());
    drop(second);
    replay.check(&kafka, 35);
}

#[test]
fn heavy_checkpoints_move_from_the_directory_into_a_bucket() {
    let Some(kafka) = kit::kafka() else { return };
    let replay = Replay::new(&kafka, "moving", "");
    fill(&kafka, &replay.input, 0..5);
    let mut running = replay.start();
    replay.wait_for(&kafka, 5);
    running.kill();
    let folder = replay.setup.path("shared");
    let there = format!("[state]\ncheckpoints = \"file://{}\"\n", folder.display());
    let replay = Replay { setup: replay.setup.with(&there), ..replay };
    fill(&kafka, &replay.input, 5..10);
    replay.check(&kafka, 10);
    assert!(folder.join("manifest").is_file());
    let left = RedbStore::open(&replay.setup.path("state")).unwrap();
    assert_eq!(left.get(Table::Checkpoints, b"requests").unwrap(), None);
}

#[test]
fn heavy_a_damaged_state_file_is_an_error_that_names_it() {
    let Some(kafka) = kit::kafka() else { return };
    let replay = Replay::new(&kafka, "damaged", "");
    fill(&kafka, &replay.input, 0..5);
    let mut running = replay.start();
    replay.wait_for(&kafka, 5);
    running.kill();
    let file = replay.setup.path("state").join("state.redb");
    let whole = std::fs::read(&file).unwrap();
    let torn = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        let output = replay.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_ne!(output.status.code(), Some(101), "a panic: {said}");
        (output.status.success(), said)
    };
    for (what, change) in [
        ("the magic number", &(|bytes: &mut Vec<u8>| bytes[0] ^= 0xff) as &dyn Fn(&mut Vec<u8>)),
        ("both headers", &|bytes| bytes[64..320].fill(0xa5)),
        ("cut off", &|bytes| bytes.truncate(5000)),
        ("all pages", &|bytes| bytes[4096..].fill(0x5a)),
    ] {
        let (well, said) = torn(change);
        assert!(!well, "{what}: not noticed");
        assert!(said.contains("state.redb") && said.contains("hint:"), "{what}: {said}");
    }
    std::fs::write(&file, &whole).unwrap();
    replay.check(&kafka, 5);
}

/// A small disk of its own; `None` where this process may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        let mounted = command.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).status());
    }
}

#[test]
fn heavy_a_full_disk_ends_the_run_with_its_reason_and_nothing_is_lost() {
    let Some(kafka) = kit::kafka() else { return };
    let Some(disk) = SmallDisk::new("8m") else { return kit::skipped("right to mount a small disk") };
    let dir = disk.path().join("state");
    let replay = Replay::new(&kafka, "full", &format!("[state]\ndir = \"{}\"\n", dir.display()));
    fill(&kafka, &replay.input, 0..5);
    let mut running = replay.start();
    replay.wait_for(&kafka, 5);
    // All that is left on the disk is taken, while the service runs.
    let filler = disk.path().join("filler");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut file, block) = (std::fs::File::create(&filler).unwrap(), vec![0; 4096]);
            while !done.load(Ordering::Relaxed) {
                if std::io::Write::write_all(&mut file, &block).is_err() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let mut minute = 5;
        let ended = kit::wait_for("the run to end", Duration::from_secs(120), || {
            fill(&kafka, &replay.input, minute..minute + 5);
            minute += 5;
            running.ended()
        });
        done.store(true, Ordering::Relaxed);
        assert!(!ended.success());
        let said = running.printed();
        assert!(said.contains("state.redb") && said.contains("check that the disk has room"), "{said}");
        std::fs::remove_file(&filler).unwrap();
        replay.check(&kafka, minute);
    });
}
