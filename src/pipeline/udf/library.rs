//! Loading a UDF's library and calling it, through the C data interface of Arrow. All that is unsafe about UDFs is here.
//! Rule: only arrays of the very types in the manifest go in, and only an array of the promised type and length comes out.
//!
//! What the plugin (arroyo-udf-plugin 0.2.0, on Arrow 51) exports is one symbol, `__run`. Its four types are laid out as
//! below, `#[repr(C)]` on both sides.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::path::Path;

use arrow::array::{Array, ArrayRef, make_array};
use arrow::datatypes::DataType;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi};

use super::error::UdfError;
use super::manifest::Manifest;

/// An array and its type.
#[repr(C)]
struct FfiArraySchema(FFI_ArrowArray, FFI_ArrowSchema);

/// The parts of a `Vec<FfiArraySchema>`.
#[repr(C)]
struct FfiArrays {
    ptr: *mut FfiArraySchema,
    len: usize,
    capacity: usize,
    error: bool,
}

#[repr(C)]
enum RunResult {
    Ok(FfiArraySchema),
    /// It panicked; what was said went to the panic hook.
    Err,
}

type Run = unsafe extern "C-unwind" fn(FfiArrays) -> RunResult;
type Tell = extern "C" fn(*const u8, usize);
type HearPanics = unsafe extern "C" fn(Tell);

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
    /// Never unloaded: arrays that came out of it are released by its code, and may outlive whoever asked for them.
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
        // chose to run, as its hash in the manifest says; std and the plugin have no initialisers that need anything.
        let library = unsafe { libloading::Library::new(path) }.map_err(wrong)?;
        // SAFETY: `#[udf]` of a plain function, which the manifest's source was checked to be, exports `__run` with this type.
        let run = *unsafe { library.get::<Run>("__run") }.map_err(wrong)?;
        // SAFETY: `prescale udf build` puts a function of this type behind each source.
        if let Ok(hear) = unsafe { library.get::<HearPanics>("__prescale_hear_panics") } {
            // SAFETY: it sets the panic hook of the library's own copy of std, from a thread that is not panicking; `keep`
            // lives as long as the process.
            unsafe { hear(keep) };
        }
        Ok(Self { run, _library: ManuallyDrop::new(library) })
    }

    /// Calls the function on each row. `arrays` must be what the manifest says: of its types, and `rows` long each.
    pub(super) fn call(&self, arrays: &[ArrayRef], rows: usize, returns: &DataType) -> Result<ArrayRef, CallError> {
        let other =
            |error: arrow::error::ArrowError| CallError::Other(format!("can't be given its arguments: {error}"));
        let mut given = Vec::with_capacity(arrays.len());
        for array in arrays {
            let (array, schema) = to_ffi(&array.to_data()).map_err(other)?;
            given.push(FfiArraySchema(array, schema));
        }
        let given = hand_over(given)?;
        WORDS.with_borrow_mut(String::clear);
        // SAFETY: `run` is `__run` of a `#[udf]` function and its library is never unloaded. `given` has the layout and the
        // allocation that it expects and is its own from here on. It reads the arrays by the types of the function, which
        // are the manifest's and so, by `Function`, those of the arrays: the one place where it could unwind into us, the
        // import of the arrays, has nothing to complain of. It catches panics of the function itself.
        match unsafe { (self.run)(given) } {
            RunResult::Err => Err(CallError::Panicked(WORDS.with_borrow_mut(std::mem::take))),
            RunResult::Ok(FfiArraySchema(array, schema)) => {
                // SAFETY: the plugin exports an array that it has just built by Arrow's own exporter, so it conforms to the C
                // data interface; it is moved into the import, which releases it once.
                let data = unsafe { from_ffi(array, &schema) }.map_err(other)?;
                if data.data_type() != returns || data.len() != rows {
                    let (kind, length) = (data.data_type(), data.len());
                    return Err(CallError::Other(format!(
                        "gave {length} values of {kind}, expected {rows} of {returns}: build it again"
                    )));
                }
                Ok(make_array(data))
            }
        }
    }
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
