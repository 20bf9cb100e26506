//! Loading a UDF's library and calling it. Arrays cross by Arrow's C data interface. All that is unsafe about UDFs is here.
//! Rule: only arrays of the very types in the manifest go in, and what comes out is copied and checked before it is an array
//! of ours.
//!
//! What the plugin (arroyo-udf-plugin 0.2.0, on Arrow 51) exports is one symbol, `__run`. The types at the border are laid
//! out as below on both sides: `ArrowArray` and `ArrowSchema` by Arrow's specification, the others `#[repr(C)]` in the
//! plugin.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::{null, null_mut};

use arrow::array::{Array, ArrayData, ArrayRef, make_array};
use arrow::buffer::Buffer;

use super::error::UdfError;
use super::kind::Kind;
use super::manifest::Manifest;

/// An array, by Arrow's specification. Whoever holds it releases it.
#[repr(C)]
struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

/// The type of an array, by Arrow's specification. Whoever holds it releases it.
#[repr(C)]
struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

#[repr(C)]
struct FfiArraySchema(ArrowArray, ArrowSchema);

/// The parts of a `Vec<FfiArraySchema>`.
#[repr(C)]
struct FfiArrays {
    ptr: *mut FfiArraySchema,
    len: usize,
    capacity: usize,
    error: bool,
}

#[repr(C)]
#[expect(dead_code, reason = "the library makes them")]
enum RunResult {
    Ok(FfiArraySchema),
    /// It panicked; what was said went to the panic hook.
    Err,
}

type Run = unsafe extern "C-unwind" fn(FfiArrays) -> RunResult;
type Tell = extern "C" fn(*const u8, usize);
type HearPanics = unsafe extern "C" fn(Tell);

/// Of `ArrowSchema::flags`.
const NULLABLE: i64 = 2;

/// Most bytes of a panic's words that are kept.
const WORDS_MAX: usize = 500;

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    Panicked(String),
    Other(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(words) if words.is_empty() => f.write_str("panicked"),
            Self::Panicked(words) => write!(f, "panicked: {words}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A loaded library.
pub(super) struct Library {
    run: Run,
    /// Never unloaded: it may have started threads, and its panic hook is code of its own.
    _library: ManuallyDrop<libloading::Library>,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Library")
    }
}

thread_local! {
    /// What the last panic of a library on this thread said.
    static WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

impl Library {
    /// Loads the library that `manifest` names; its bytes have been seen to be those of the manifest.
    pub(super) fn open(path: &Path, manifest: &Manifest) -> Result<Self, UdfError> {
        let wrong = |error: libloading::Error| UdfError::Function {
            name: manifest.name.clone(),
            message: format!("`{}` can't be loaded: {error}", path.display()),
            hint: "run `prescale udf build` on this machine".to_owned(),
        };
        // SAFETY: loading runs the library's initialisers. It was built by `prescale udf build` from a source that its user
        // chose to run, as the manifest says; std and the plugin have no initialisers that need anything.
        let library = unsafe { libloading::Library::new(path) }.map_err(wrong)?;
        // SAFETY: `#[udf]` of a plain function, which the manifest's source was checked to be, exports `__run` of this type.
        let run = *unsafe { library.get::<Run>("__run") }.map_err(wrong)?;
        // SAFETY: `prescale udf build` puts a function of this type behind each source.
        if let Ok(hear) = unsafe { library.get::<HearPanics>("__prescale_hear_panics") } {
            // SAFETY: it sets the panic hook of the library's own copy of std, from a thread that is not panicking; `keep`
            // is there as long as the process.
            unsafe { hear(keep) };
        }
        Ok(Self { run, _library: ManuallyDrop::new(library) })
    }

    /// Calls the function on each row. `arrays` must be what the manifest says: of its types, and `rows` long each.
    pub(super) fn call(&self, arrays: &[(ArrayRef, Kind)], rows: usize, returns: Kind) -> Result<ArrayRef, CallError> {
        let given: Option<Vec<_>> = arrays.iter().map(|(array, kind)| lend(array, *kind)).collect();
        let given =
            hand_over(given.ok_or_else(|| CallError::Other("got arguments that it can't be given".to_owned()))?)?;
        WORDS.with_borrow_mut(String::clear);
        // SAFETY: `run` is `__run` of a `#[udf]` function and its library is never unloaded. `given` has the layout and the
        // allocation that it expects and is its own from here on. It reads the arrays by the types of the function, which
        // are the manifest's and so, by `Function`, those of the arrays: the one place where it could unwind into us, the
        // import of the arrays, has nothing to complain of. It catches panics of the function itself.
        match unsafe { (self.run)(given) } {
            RunResult::Err => Err(CallError::Panicked(WORDS.with_borrow_mut(std::mem::take))),
            RunResult::Ok(FfiArraySchema(array, schema)) => {
                // SAFETY: the plugin exports an array that it has just built, by Arrow's own exporter.
                let copied = unsafe { copy(&array, &schema, rows, returns) };
                copied.map_err(|what| CallError::Other(format!("gave {what}, expected {rows} of {returns:?}")))
            }
        }
    }
}

/// Exports an array without copying its values; `None` if it is not of this kind.
fn lend(array: &ArrayRef, kind: Kind) -> Option<FfiArraySchema> {
    let data = array.to_data();
    if *data.data_type() != kind.data_type() || data.offset() != 0 {
        return None;
    }
    let nulls = data.nulls();
    let validity = nulls.map(|nulls| nulls.inner().sliced());
    let held: Vec<Option<Buffer>> = [validity].into_iter().chain(data.buffers().iter().cloned().map(Some)).collect();
    let buffers = held.iter().map(|buffer| buffer.as_ref().map_or(null(), |buffer| buffer.as_ptr().cast())).collect();
    let mut lent = Box::new(Lent { _held: held, buffers });
    let array = ArrowArray {
        length: i64::try_from(data.len()).ok()?,
        null_count: i64::try_from(data.null_count()).ok()?,
        offset: 0,
        n_buffers: i64::try_from(lent.buffers.len()).ok()?,
        n_children: 0,
        buffers: lent.buffers.as_mut_ptr(),
        children: null_mut(),
        dictionary: null_mut(),
        release: Some(release_array),
        private_data: Box::into_raw(lent).cast(),
    };
    let schema = ArrowSchema {
        format: format_of(kind).as_ptr(),
        name: c"".as_ptr(),
        metadata: null(),
        flags: NULLABLE,
        n_children: 0,
        children: null_mut(),
        dictionary: null_mut(),
        release: Some(release_schema),
        private_data: null_mut(),
    };
    Some(FfiArraySchema(array, schema))
}

/// What an exported array holds until it is released.
struct Lent {
    _held: Vec<Option<Buffer>>,
    buffers: Vec<*const c_void>,
}

unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: called by the holder of an array that `lend` made, once, for it sets `release` to null as the interface asks:
    // so `private_data` is the box that `lend` gave away.
    unsafe {
        drop(Box::from_raw((*array).private_data.cast::<Lent>()));
        (*array).release = None;
    }
}

unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: called by the holder of a schema that `lend` made. All that it points to is static.
    unsafe { (*schema).release = None };
}

impl Drop for ArrowArray {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: it was not released yet, and its producer's callback is the way to do it.
            unsafe { release(self) };
        }
    }
}

impl Drop for ArrowSchema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: as above.
            unsafe { release(self) };
        }
    }
}

/// The name of a type in the C data interface.
fn format_of(kind: Kind) -> &'static CStr {
    match kind {
        Kind::Int => c"i",
        Kind::BigInt => c"l",
        Kind::IntUnsigned => c"I",
        Kind::BigIntUnsigned => c"L",
        Kind::Float => c"f",
        Kind::Double => c"g",
        Kind::Text => c"u",
        Kind::Bytes => c"z",
    }
}

/// Copies an array that must have `rows` values of `kind`; otherwise says what it is. The copy is checked: offsets in
/// order, text in UTF-8.
///
/// # Safety
///
/// `array` and `schema` conform to the C data interface and are not released.
unsafe fn copy(array: &ArrowArray, schema: &ArrowSchema, rows: usize, kind: Kind) -> Result<ArrayRef, String> {
    if array.release.is_none() || schema.release.is_none() || schema.format.is_null() {
        return Err("an array that is released".to_owned());
    }
    // SAFETY: the format of a schema that is not released is a string.
    let format = unsafe { CStr::from_ptr(schema.format) };
    let (length, offset) = (usize::try_from(array.length), usize::try_from(array.offset));
    let (Ok(length), Ok(offset)) = (length, offset) else { return Err("an array of negative length".to_owned()) };
    let widths: &[usize] = match kind {
        Kind::Int | Kind::IntUnsigned | Kind::Float => &[4],
        Kind::BigInt | Kind::BigIntUnsigned | Kind::Double => &[8],
        Kind::Text | Kind::Bytes => &[4, 1],
    };
    let fits = format == format_of(kind)
        && length == rows
        && usize::try_from(array.n_buffers) == Ok(1 + widths.len())
        && u32::try_from(offset).is_ok()
        && array.n_children == 0
        && array.dictionary.is_null()
        && !array.buffers.is_null();
    if !fits {
        return Err(format!("{length} values of Arrow's type `{}`", format.to_string_lossy()));
    }
    let values = length + offset;
    // SAFETY: for each buffer below: it is one of the `n_buffers`, and as long as the interface says for the type and for
    // `length` values after `offset` others.
    let bytes = |index: usize, length: usize| unsafe {
        let start = *array.buffers.add(index);
        if start.is_null() || length == 0 {
            None
        } else {
            Some(Buffer::from(std::slice::from_raw_parts(start.cast::<u8>(), length)))
        }
    };
    let validity = bytes(0, values.div_ceil(8));
    let mut buffers = Vec::with_capacity(widths.len());
    if widths.len() == 1 {
        buffers.extend(bytes(1, values * widths[0]));
    } else if let Some(offsets) = bytes(1, (values + 1) * widths[0]) {
        let last = offsets.as_slice().last_chunk::<4>().map_or(0, |last| i32::from_ne_bytes(*last));
        let text = bytes(2, usize::try_from(last).map_err(|_| "an array of negative length".to_owned())?);
        buffers.extend([offsets, text.unwrap_or_else(|| Buffer::from(&[] as &[u8]))]);
    }
    let copied = ArrayData::try_new(kind.data_type(), length, validity, offset, buffers, Vec::new());
    copied.map(make_array).map_err(|error| format!("an array that is none: {error}"))
}

/// Puts arguments where the plugin expects them: in an allocation of the system allocator, which is its own, whatever the
/// allocator of this process is. It frees them.
fn hand_over(given: Vec<FfiArraySchema>) -> Result<FfiArrays, CallError> {
    let no_room = || CallError::Other("can't be given its arguments: out of memory".to_owned());
    let len = given.len();
    let layout = Layout::array::<FfiArraySchema>(len).map_err(|_| no_room())?;
    if layout.size() == 0 {
        return Err(CallError::Other("has no argument".to_owned()));
    }
    // SAFETY: the layout has a size above 0.
    let ptr = unsafe { System.alloc(layout) }.cast::<FfiArraySchema>();
    if ptr.is_null() {
        return Err(no_room());
    }
    for (index, one) in given.into_iter().enumerate() {
        // SAFETY: `index` is below `len`, for which there is room; the place is not initialised, so nothing is dropped.
        unsafe { ptr.add(index).write(one) };
    }
    Ok(FfiArrays { ptr, len, capacity: len, error: false })
}

/// Called by a library's panic hook, on the thread that called the library.
extern "C" fn keep(text: *const u8, length: usize) {
    if text.is_null() {
        return;
    }
    // SAFETY: the hook gives the parts of a string that it holds while it calls.
    let bytes = unsafe { std::slice::from_raw_parts(text, length.min(WORDS_MAX)) };
    let words = String::from_utf8_lossy(bytes);
    // One line: it stands in a dead letter. A thread that is ending has no place for it.
    let _kept_or_ending = WORDS.try_with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut() {
            kept.clear();
            kept.push_str(&words.replace(['\n', '\r'], " "));
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Float64Array, Int32Array, StringArray, UInt64Array};
    use proptest::prelude::*;

    use super::*;

    /// Out by our exporter and in again by our importer, as the plugin would see and make it.
    #[track_caller]
    fn round_trip(array: &ArrayRef, kind: Kind) {
        let FfiArraySchema(lent, schema) = lend(array, kind).unwrap();
        // SAFETY: `lend` makes what conforms to the interface.
        let copied = unsafe { copy(&lent, &schema, array.len(), kind) }.unwrap();
        assert_eq!(&copied, array);
        // SAFETY: as above.
        let (other_length, other_kind) =
            unsafe { (copy(&lent, &schema, array.len() + 1, kind), copy(&lent, &schema, array.len(), Kind::Float)) };
        assert!(other_length.is_err() && other_kind.is_err());
    }

    proptest! {
        #[test]
        fn arrays_cross_the_border_as_they_are(
            rows in prop::collection::vec((any::<Option<i32>>(), any::<Option<String>>(), any::<Option<f64>>()), 1..80),
            skipped in 0..40usize,
        ) {
            let skipped = skipped.min(rows.len() - 1);
            let arrays: [(ArrayRef, Kind); 5] = [
                (Arc::new(rows.iter().map(|row| row.0).collect::<Int32Array>()), Kind::Int),
                (Arc::new(rows.iter().map(|row| row.0.map(|x| x.unsigned_abs().into())).collect::<UInt64Array>()), Kind::BigIntUnsigned),
                (Arc::new(rows.iter().map(|row| row.2.map(f64::to_bits).map(f64::from_bits).filter(|x| !x.is_nan())).collect::<Float64Array>()), Kind::Double),
                (Arc::new(rows.iter().map(|row| row.1.clone()).collect::<StringArray>()), Kind::Text),
                (Arc::new(rows.iter().map(|row| row.1.clone().map(String::into_bytes)).collect::<BinaryArray>()), Kind::Bytes),
            ];
            for (array, kind) in arrays {
                round_trip(&array, kind);
                round_trip(&array.slice(skipped, array.len() - skipped), kind);
            }
        }
    }

    #[test]
    fn what_is_lent_is_held_until_it_is_released() {
        let array: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let holders = |array: &ArrayRef| array.to_data().buffers()[0].strong_count();
        let before = holders(&array);
        let lent = lend(&array, Kind::Int).unwrap();
        assert_eq!(holders(&array), before + 1);
        drop(lent);
        assert_eq!(holders(&array), before);
        assert!(lend(&array, Kind::Text).is_none());
    }

    #[test]
    fn an_array_that_contradicts_itself_is_no_array() {
        let text: ArrayRef = Arc::new(BinaryArray::from_iter_values([b"\xff\xfe"]));
        let FfiArraySchema(lent, mut schema) = lend(&text, Kind::Bytes).unwrap();
        schema.format = format_of(Kind::Text).as_ptr();
        // SAFETY: both types have the same buffers; what is wrong is their content.
        let error = unsafe { copy(&lent, &schema, 1, Kind::Text) }.expect_err("no UTF-8");
        assert!(error.starts_with("an array that is none: "), "{error}");
        assert_eq!(CallError::Panicked(String::new()).to_string(), "panicked");
    }
}
