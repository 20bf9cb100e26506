//! What a process has used so far, as the kernel counts it. Rule: of Linux's `/proc`; a figure that is not there is an
//! error, never 0.

use std::fs;

use super::Result;

/// Linux counts a process's time in hundredths of a second towards user space, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process: this one, or another by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Process {
    This,
    Other(u32),
}

impl Process {
    fn read(self, file: &str) -> Result<String> {
        let path = match self {
            Self::This => format!("/proc/self/{file}"),
            Self::Other(id) => format!("/proc/{id}/{file}"),
        };
        fs::read_to_string(&path).map_err(|error| format!("read `{path}`: {error}").into())
    }

    /// User and system time of all its threads, those that have ended among them, in seconds.
    pub(crate) fn cpu_seconds(self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The program's name, in brackets, may hold anything; fields are counted after it.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let field = |index: usize| -> Result<f64> {
            Ok(after.split_whitespace().nth(index).ok_or("`stat` is too short")?.parse()?)
        };
        Ok((field(11)? + field(12)?) / TICKS_PER_SECOND)
    }

    /// Resident memory now, in bytes.
    pub(crate) fn resident_bytes(self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes.
    pub(crate) fn peak_resident_bytes(self) -> Result<u64> {
        self.status("VmHWM:")
    }

    fn status(self, name: &str) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.split_whitespace().next());
        let kibibytes = kibibytes.ok_or_else(|| format!("`status` has no {name}"))?;
        Ok(kibibytes.parse::<u64>()? * 1024)
    }
}
