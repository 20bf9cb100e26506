//! The few calls into librdkafka that the `rdkafka` crate does not wrap. Rule: all `unsafe` of this crate is here.
//!
//! Reading a batch with one call costs about 1.6 times less CPU per record than polling messages one by one.

use std::ffi::{CStr, c_char};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaType;

const NO_ERROR: sys::rd_kafka_resp_err_t = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// One thing from the consumer's queue.
pub(crate) enum Fetched<'a> {
    Record {
        partition: i32,
        offset: i64,
        timestamp_millis: Option<i64>,
        key: Option<&'a [u8]>,
        payload: Option<&'a [u8]>,
    },
    /// Nothing is left to read before `offset` now.
    End {
        partition: i32,
        offset: i64,
    },
    Failed {
        partition: i32,
        code: RDKafkaErrorCode,
        text: String,
    },
}

/// What librdkafka tells beside records.
pub(crate) enum Notice {
    Error { code: RDKafkaErrorCode, text: String },
    Log { level: i32, text: String },
}

/// Tells the allocator of the C library to keep what is given back, up to 256 MiB, rather than hand it to the kernel and
/// ask for it again: librdkafka and the decoding of batches take and give back megabytes all the time, and each page that
/// comes anew costs a fault. For the begin of `main`; elsewhere than on glibc it does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` may be called at any time; a value that it does not take changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 20);
    }
}

/// A consumer whose records and notices come on two queues.
pub(crate) struct NativeConsumer {
    records: NonNull<sys::rd_kafka_queue_t>,
    notices: NonNull<sys::rd_kafka_queue_t>,
    /// Room for the pointers of one batch; empty between calls.
    buffer: Vec<*mut sys::rd_kafka_message_t>,
    client: Client<DefaultClientContext>,
}

// SAFETY: librdkafka's handles and queues may be used from any thread, and `buffer` owns no message between calls.
unsafe impl Send for NativeConsumer {}

impl NativeConsumer {
    pub(crate) fn new(config: &ClientConfig, max_records: usize) -> KafkaResult<Self> {
        let native = config.create_native_config()?;
        // SAFETY: `native` is a live configuration; errors then come as events on the main queue, not through callbacks.
        unsafe { sys::rd_kafka_conf_set_events(native.ptr(), sys::RD_KAFKA_EVENT_ERROR) };
        let client = Client::new(config, native, RDKafkaType::RD_KAFKA_CONSUMER, DefaultClientContext)?;
        let missing = |queue: &str| KafkaError::ClientCreation(format!("librdkafka gave no {queue} queue"));
        // SAFETY: the client is live; both queues are released in `drop`, before the client is.
        let (records, notices) = unsafe {
            (sys::rd_kafka_queue_get_consumer(client.native_ptr()), sys::rd_kafka_queue_get_main(client.native_ptr()))
        };
        let records = NonNull::new(records).ok_or_else(|| missing("consumer"))?;
        let notices = NonNull::new(notices).ok_or_else(|| missing("main"))?;
        Ok(Self { records, notices, buffer: Vec::with_capacity(max_records.max(1)), client })
    }

    pub(crate) fn client(&self) -> &Client<DefaultClientContext> {
        &self.client
    }

    /// Replaces the assignment.
    pub(crate) fn assign(&self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        // SAFETY: both pointers are live; librdkafka copies the list.
        let code = unsafe { sys::rd_kafka_assign(self.client.native_ptr(), partitions.ptr()) };
        check(code)
    }

    /// Adds partitions to the assignment; the others go on undisturbed.
    pub(crate) fn assign_more(&self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        // SAFETY: both pointers are live; librdkafka copies the list, and the error object is ours to destroy.
        let code = unsafe {
            let error = sys::rd_kafka_incremental_assign(self.client.native_ptr(), partitions.ptr());
            take_error(error)
        };
        check(code)
    }

    /// Takes partitions out of the assignment; the others go on undisturbed.
    pub(crate) fn assign_less(&self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        // SAFETY: both pointers are live; librdkafka copies the list, and the error object is ours to destroy.
        let code = unsafe {
            let error = sys::rd_kafka_incremental_unassign(self.client.native_ptr(), partitions.ptr());
            take_error(error)
        };
        check(code)
    }

    /// The group's committed offsets for the partitions of the list.
    pub(crate) fn committed(&self, list: &TopicPartitionList, timeout: Duration) -> KafkaResult<()> {
        // SAFETY: both pointers are live; librdkafka fills in the offsets of the list that we own.
        check(unsafe { sys::rd_kafka_committed(self.client.native_ptr(), list.ptr(), millis(timeout)) })
    }

    /// Commits group offsets and waits up to `timeout` for the coordinator's answer.
    pub(crate) fn commit(&self, list: &TopicPartitionList, timeout: Duration) -> KafkaResult<()> {
        // SAFETY: the queue is created, used and destroyed here; librdkafka keeps its own reference for a late answer.
        unsafe {
            let queue = sys::rd_kafka_queue_new(self.client.native_ptr());
            let mut code =
                sys::rd_kafka_commit_queue(self.client.native_ptr(), list.ptr(), queue, None, ptr::null_mut());
            if code == NO_ERROR {
                let event = sys::rd_kafka_queue_poll(queue, millis(timeout));
                code = if event.is_null() {
                    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT
                } else {
                    let code = sys::rd_kafka_event_error(event);
                    sys::rd_kafka_event_destroy(event);
                    code
                };
            }
            sys::rd_kafka_queue_destroy(queue);
            check(code)
        }
    }

    /// The end of a partition as the last fetch said, open transactions included; nothing is asked of the broker.
    pub(crate) fn high_watermark(&self, topic: &CStr, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client and the name are live, and both numbers outlive the call.
        let code = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.client.native_ptr(),
                topic.as_ptr(),
                partition,
                &mut low,
                &mut high,
            )
        };
        (code == NO_ERROR && high >= 0).then_some(high)
    }

    /// Hands over what is queued, or, when nothing is, what comes first within `wait` and all that is there with it.
    /// Returns how many things it was.
    pub(crate) fn fetch(&mut self, wait: Duration, mut each: impl FnMut(Fetched<'_>)) -> usize {
        let room = self.buffer.capacity();
        let mut count = self.read(Duration::ZERO, 0, room);
        if count == 0 && !wait.is_zero() {
            // librdkafka waits until the room that it was given is full: one place, then the rest without waiting.
            count = self.read(wait, 0, 1);
            if count == 1 && room > 1 {
                count += self.read(Duration::ZERO, 1, room - 1);
            }
        }
        // SAFETY: `read` has initialised the first `count` places, and `count` is within the capacity.
        unsafe { self.buffer.set_len(count) };
        for message in self.buffer.drain(..) {
            // SAFETY: each pointer is a message that librdkafka gave us and that nobody else holds; what is borrowed
            // from it ends with `each`.
            unsafe {
                each(fetched(&*message));
                sys::rd_kafka_message_destroy(message);
            }
        }
        count
    }

    fn read(&mut self, wait: Duration, from: usize, room: usize) -> usize {
        debug_assert!(from + room <= self.buffer.capacity());
        // SAFETY: `from + room` is within the buffer's capacity; the queue is live.
        let count = unsafe {
            let place = self.buffer.as_mut_ptr().add(from);
            sys::rd_kafka_consume_batch_queue(self.records.as_ptr(), millis(wait), place, room)
        };
        usize::try_from(count).unwrap_or(0)
    }

    /// What librdkafka had to tell since the last call.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        loop {
            // SAFETY: the queue is live; the event is ours until it is destroyed below.
            unsafe {
                let event = sys::rd_kafka_queue_poll(self.notices.as_ptr(), 0);
                if event.is_null() {
                    return notices;
                }
                notices.extend(notice(event));
                sys::rd_kafka_event_destroy(event);
            }
        }
    }
}

impl Drop for NativeConsumer {
    fn drop(&mut self) {
        // SAFETY: both queues are live and not used afterwards; the client, a field, is dropped after them.
        unsafe {
            sys::rd_kafka_queue_destroy(self.records.as_ptr());
            sys::rd_kafka_queue_destroy(self.notices.as_ptr());
        }
    }
}

/// Waits until the producer holds no message any more, each delivery report having been served by its polling thread.
/// Lingering ends at once. Returns whether it came to that within `timeout`.
pub(crate) fn flush<C: ClientContext>(client: &Client<C>, timeout: Duration) -> bool {
    // SAFETY: the client is live.
    unsafe { sys::rd_kafka_flush(client.native_ptr(), millis(timeout)) == NO_ERROR }
}

/// A failed call of librdkafka's transactional interface.
pub(crate) struct TransactionFault {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) text: String,
    pub(crate) is_retriable: bool,
    pub(crate) requires_abort: bool,
}

/// Makes offsets of a consumer group part of a producer's open transaction. The group has no members: its offsets only
/// inform.
pub(crate) fn send_offsets<C: ClientContext>(
    client: &Client<C>,
    group: &CStr,
    offsets: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), TransactionFault> {
    // SAFETY: all pointers are live; the group's metadata is created, used and destroyed here, and librdkafka copies it
    // and the list. The error object is ours to destroy.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata_new(group.as_ptr());
        let error =
            sys::rd_kafka_send_offsets_to_transaction(client.native_ptr(), offsets.ptr(), metadata, millis(timeout));
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        if error.is_null() {
            return Ok(());
        }
        let fault = TransactionFault {
            code: sys::rd_kafka_error_code(error).into(),
            text: text(sys::rd_kafka_error_string(error)),
            is_retriable: sys::rd_kafka_error_is_retriable(error) != 0,
            requires_abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
        };
        sys::rd_kafka_error_destroy(error);
        Err(fault)
    }
}

/// # Safety
/// `message` must be a live consumer message.
unsafe fn fetched(message: &sys::rd_kafka_message_t) -> Fetched<'_> {
    let (partition, offset) = (message.partition, message.offset);
    let payload = if message.payload.is_null() {
        None
    } else {
        // SAFETY: librdkafka keeps `len` bytes at `payload` until the message is destroyed.
        Some(unsafe { slice::from_raw_parts(message.payload.cast::<u8>(), message.len) })
    };
    let key = if message.key.is_null() {
        None
    } else {
        // SAFETY: librdkafka keeps `key_len` bytes at `key` until the message is destroyed.
        Some(unsafe { slice::from_raw_parts(message.key.cast::<u8>(), message.key_len) })
    };
    if message.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF {
        return Fetched::End { partition, offset };
    }
    if message.err != NO_ERROR {
        let text = String::from_utf8_lossy(payload.unwrap_or_default()).into_owned();
        return Fetched::Failed { partition, code: message.err.into(), text };
    }
    let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message is live and `kind` outlives the call.
    let timestamp = unsafe { sys::rd_kafka_message_timestamp(message, &mut kind) };
    let known = kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    Fetched::Record { partition, offset, timestamp_millis: known.then_some(timestamp), key, payload }
}

/// # Safety
/// `event` must be a live event.
unsafe fn notice(event: *mut sys::rd_kafka_event_t) -> Option<Notice> {
    // SAFETY: the event is live, and the strings that it lends live as long as it does.
    unsafe {
        match sys::rd_kafka_event_type(event) {
            sys::RD_KAFKA_EVENT_ERROR => {
                let code = sys::rd_kafka_event_error(event).into();
                Some(Notice::Error { code, text: text(sys::rd_kafka_event_error_string(event)) })
            }
            sys::RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                let failed = sys::rd_kafka_event_log(event, &mut facility, &mut line, &mut level) != 0;
                (!failed).then(|| Notice::Log { level, text: format!("{}: {}", text(facility), text(line)) })
            }
            _ => None,
        }
    }
}

/// # Safety
/// `string` must be null or a live C string.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: checked above, and promised by the caller.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().trim().to_owned()
}

/// # Safety
/// `error` must be null or an error object that the caller owns; it is destroyed.
unsafe fn take_error(error: *mut sys::rd_kafka_error_t) -> sys::rd_kafka_resp_err_t {
    if error.is_null() {
        return NO_ERROR;
    }
    // SAFETY: checked above, and promised by the caller.
    unsafe {
        let code = sys::rd_kafka_error_code(error);
        sys::rd_kafka_error_destroy(error);
        code
    }
}

fn check(code: sys::rd_kafka_resp_err_t) -> KafkaResult<()> {
    if code == NO_ERROR { Ok(()) } else { Err(KafkaError::Global(code.into())) }
}

fn millis(length: Duration) -> i32 {
    i32::try_from(length.as_millis()).unwrap_or(i32::MAX)
}
