//! What holds of a bucket whatever it lies on, shown on a folder; `tests/it/state.rs` does the same on S3.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::bucket::session::{MANIFEST, OBJECTS, SMALL};

const TABLES: [Table; 2] = [Table::Checkpoints, Table::Outbox];

fn open(folder: &Path) -> Result<BucketStore, StoreError> {
    BucketStore::open(&format!("file://{}", folder.display()))
}

fn put(key: u8, value: Vec<u8>) -> Write {
    Write { table: Table::Outbox, key: vec![key], value: Some(value) }
}

fn large(first: u8) -> Vec<u8> {
    let mut value = vec![7; SMALL + 1];
    value[0] = first;
    value
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.join(OBJECTS)) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn entries(store: &dyn Store) -> Vec<Entries> {
    TABLES.map(|table| store.range(table, &[], &[255], usize::MAX, false).unwrap()).to_vec()
}

#[test]
fn what_was_written_is_there_after_reopening_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    store.write(&[put(1, large(1)), put(2, b"small".to_vec())]).unwrap();
    store.write(&[put(1, large(2)), put(3, large(3))]).unwrap();
    store.write(&[Write { table: Table::Outbox, key: vec![3], value: None }]).unwrap();
    let held = entries(&store);
    drop(store);
    assert_eq!(objects(folder.path()).len(), 1, "values that were replaced or deleted are gone");
    let store = open(folder.path()).unwrap();
    assert_eq!(entries(&store), held);
    assert_eq!(store.get(Table::Outbox, &[1]).unwrap(), Some(large(2)));
}

#[test]
fn the_process_that_opened_it_last_shuts_out_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let older = open(folder.path()).unwrap();
    older.write(&[put(1, large(1))]).unwrap();
    let newer = open(folder.path()).unwrap();
    for _ in 0..2 {
        match older.write(&[put(1, large(9)), put(2, large(9))]) {
            Err(StoreError::Fenced { own: 1, found: 2, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    newer.write(&[put(2, b"newer".to_vec())]).unwrap();
    let held = entries(&newer);
    assert_eq!(held[1], [(vec![1], large(1)), (vec![2], b"newer".to_vec())]);
    drop((older, newer));
    assert_eq!(entries(&open(folder.path()).unwrap()), held);
    assert_eq!(objects(folder.path()).len(), 1, "what the older one had put is cleaned up");
}

#[test]
fn a_crash_between_an_object_and_the_manifest_leaves_what_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    store.write(&[put(1, large(1)), put(2, b"two".to_vec())]).unwrap();
    let (held, before) = (entries(&store), std::fs::read(folder.path().join(MANIFEST)).unwrap());
    store.write(&[put(1, large(2)), put(2, b"more".to_vec())]).unwrap();
    drop(store);
    // As a kill leaves it before the manifest is put: the new object is there, the old one is not deleted yet.
    let object = objects(folder.path()).remove(0);
    let old = object.with_file_name(format!("{}1", &object.file_name().unwrap().to_str().unwrap()[..37]));
    std::fs::write(&old, large(1)).unwrap();
    std::fs::write(folder.path().join(MANIFEST), before).unwrap();
    let store = open(folder.path()).unwrap();
    assert_eq!(entries(&store), held);
    drop(store);
    assert_eq!(objects(folder.path()), [old], "the object that nothing names is cleaned up");
}

/// Opens it after `damage` and checks that the error names the object.
#[track_caller]
fn damaged(damage: impl Fn(&Path, &Path), names: &str) {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).unwrap().write(&[put(1, large(1)), put(2, b"two".to_vec())]).unwrap();
    damage(&folder.path().join(MANIFEST), &objects(folder.path())[0]);
    match open(folder.path()) {
        Err(StoreError::Damaged { object, .. }) => assert!(object.contains(names), "{object}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no error"),
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_object_is_an_error_that_names_it() {
    damaged(|manifest, _| change(manifest, |bytes| bytes.truncate(40)), "/manifest");
    damaged(|manifest, _| change(manifest, Vec::clear), "/manifest");
    damaged(|manifest, _| change(manifest, |bytes| bytes[60] ^= 1), "/manifest");
    damaged(|_, object| change(object, |bytes| bytes.truncate(SMALL)), "/objects/");
    damaged(|_, object| change(object, |bytes| bytes[SMALL] ^= 1), "/objects/");
    damaged(|_, object| std::fs::remove_file(object).unwrap(), "/objects/");
}

#[test]
fn a_url_that_is_no_place_is_refused() {
    for url in ["", "s3:", "s3://", "s3:///prefix", "file://relative", "gs://bucket", "s3://bucket/a?colour=red"] {
        assert!(matches!(BucketStore::open(url), Err(StoreError::Refused { .. })), "{url}");
    }
}

#[test]
fn threads_that_write_at_once_all_have_their_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..10 {
                    store.write(&[put(thread, vec![number]), put(thread + 100, vec![number])]).unwrap();
                }
            });
        }
    });
    drop(store);
    let held = entries(&open(folder.path()).unwrap());
    let expected: Entries = (0..4).chain(100..104).map(|key| (vec![key], vec![9])).collect();
    assert_eq!(held[1], expected);
}

/// One write, or a restart.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(usize, u8, Option<usize>)>),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![0..64_usize, SMALL - 1..SMALL + 2, Just(3 * SMALL)];
    let change = (0..TABLES.len(), 0..4_u8, proptest::option::weighted(0.8, size));
    let write = proptest::collection::vec(change, 0..4).prop_map(Step::Write);
    proptest::collection::vec(prop_oneof![4 => write, 1 => Just(Step::Reopen)], 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn it_holds_what_memory_would(steps in steps()) {
        let (folder, memory) = (tempfile::tempdir().unwrap(), MemoryStore::default());
        let mut store = open(folder.path()).unwrap();
        for (number, step) in (0_u8..).zip(&steps) {
            match step {
                Step::Write(changes) => {
                    let changes: Vec<Write> = changes.iter().map(|(table, key, size)| Write {
                        table: TABLES[*table],
                        key: vec![*key],
                        value: size.map(|size| vec![number; size]),
                    }).collect();
                    store.write(&changes).unwrap();
                    memory.write(&changes).unwrap();
                }
                Step::Reopen => {
                    drop(store);
                    store = open(folder.path()).unwrap();
                }
            }
            prop_assert_eq!(entries(&store), entries(&memory));
        }
        drop(store);
        let store = open(folder.path()).unwrap();
        prop_assert_eq!(entries(&store), entries(&memory));
        let large = entries(&memory).iter().flatten().filter(|(_, value)| value.len() > SMALL).count();
        drop(store);
        prop_assert_eq!(objects(folder.path()).len(), large);
    }
}
