//! Both stores behave alike, and what was written stays.

use prescale_domain::{ServiceName, Timestamp};
use proptest::prelude::*;

use crate::{MemoryStore, RedbStore, Store, StoreError, Table, Write, prefix_end, service_time_key};

fn put(key: &[u8], value: &[u8]) -> Write {
    Write { table: Table::History, key: key.to_vec(), value: Some(value.to_vec()) }
}

#[test]
fn both_stores_agree_on_reads_ranges_and_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let stores: [Box<dyn Store>; 2] =
        [Box::new(MemoryStore::default()), Box::new(RedbStore::open(directory.path()).unwrap())];
    for store in stores {
        assert_eq!(store.get(Table::History, b"a").unwrap(), None);
        store.write(&[put(b"a", b"1"), put(b"b", b"2"), put(b"c", b"3")]).unwrap();
        store.write(&[Write { table: Table::History, key: b"b".to_vec(), value: None }]).unwrap();
        assert_eq!(store.get(Table::History, b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(store.get(Table::Events, b"a").unwrap(), None);
        let all = store.range(Table::History, b"a", b"z", 9, true).unwrap();
        assert_eq!(all, [(b"c".to_vec(), b"3".to_vec()), (b"a".to_vec(), b"1".to_vec())]);
        assert_eq!(store.range(Table::History, b"a", b"c", 9, false).unwrap().len(), 1);
        assert_eq!(store.range(Table::History, b"a", b"z", 1, false).unwrap().len(), 1);
        assert!(store.range(Table::History, b"z", b"a", 9, false).unwrap().is_empty());
    }
}

#[test]
fn what_was_written_is_there_after_reopening_and_a_second_process_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    store.write(&[put(b"a", b"1")]).unwrap();
    assert!(matches!(RedbStore::open(directory.path()), Err(StoreError::Locked { .. })));
    drop(store);
    let store = RedbStore::open(directory.path()).unwrap();
    assert_eq!(store.get(Table::History, b"a").unwrap(), Some(b"1".to_vec()));
}

proptest! {
    #[test]
    fn keys_of_a_service_sort_by_time(a in any::<i64>(), b in any::<i64>()) {
        let service = ServiceName::new("web");
        let key = |t| service_time_key(&service, Timestamp::from_millis(t));
        prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
        prop_assert!(key(a) < prefix_end(b"web\0"));
    }
}

#[test]
fn a_damaged_file_is_an_error_that_names_it_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    for n in 0..50_u8 {
        store.write(&[put(&[n], &vec![n; 2000])]).unwrap();
    }
    drop(store);
    let path = directory.path().join("state.redb");
    let whole = std::fs::read(&path).unwrap();
    let mut noticed = 0;
    let places = (0..whole.len()).step_by(997);
    for place in places.clone() {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        std::fs::write(&path, bytes).unwrap();
        // Where nothing lies, a change does not matter; elsewhere what is read must be what was written.
        match RedbStore::open(directory.path()) {
            Ok(store) => {
                for n in 0..50_u8 {
                    assert_eq!(store.get(Table::History, &[n]).unwrap(), Some(vec![n; 2000]), "byte {place}");
                }
            }
            Err(error) => {
                assert!(error.to_string().contains("state.redb"), "{error}");
                noticed += 1;
            }
        }
    }
    assert!(noticed > places.count() / 20, "only {noticed}");
    for length in [0, 1, 100, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        match RedbStore::open(directory.path()) {
            Ok(store) => assert_eq!((length, store.get(Table::History, &[7]).unwrap()), (0, None)),
            Err(error) => assert!(error.to_string().contains("state.redb"), "{error}"),
        }
    }
}
