//! Three brokers of one test alone, of which any may be killed and brought back. Rule: ended with their holder.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub(crate) struct OwnCluster {
    folder: tempfile::TempDir,
    ports: Vec<u16>,
}

impl OwnCluster {
    /// `None` where there is no Kafka on this machine at all.
    #[track_caller]
    pub(crate) fn start() -> Option<Self> {
        super::kafka()?;
        let own = Self { folder: tempfile::tempdir().unwrap(), ports: super::free_port_pairs(3) };
        // A broker answers when it is not alone: all start at once.
        let starting: Vec<Child> = (0..own.ports.len()).map(|broker| own.starting(broker)).collect();
        for mut child in starting {
            assert!(child.wait().unwrap().success());
        }
        Some(own)
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// Starts one on its old data.
    #[track_caller]
    pub(crate) fn bring_up(&self, broker: usize) {
        assert!(self.starting(broker).wait().unwrap().success());
    }

    /// Ends one as a crash does.
    #[track_caller]
    pub(crate) fn kill(&self, broker: usize) {
        assert!(self.script("kill", broker).status().unwrap().success());
    }

    fn starting(&self, broker: usize) -> Child {
        let mut command = self.script("start", broker);
        command.arg(self.ports[broker].to_string()).arg((broker + 1).to_string());
        command.args(self.ports.iter().map(u16::to_string)).env("KAFKA_HEAP", "384m");
        command.spawn().unwrap()
    }

    fn script(&self, verb: &str, broker: usize) -> Command {
        let mut command = Command::new(super::root().join("tests/kit/kafka.sh"));
        let folder: PathBuf = self.folder.path().join(broker.to_string());
        // The broker outlives the script: it must not hold a pipe that somebody waits on.
        command.arg(verb).arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        for broker in 0..self.ports.len() {
            // Whatever it says: it is the end of the test.
            drop(self.script("kill", broker).status());
        }
    }
}
