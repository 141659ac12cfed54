//! The gate every flush passes: one at a time, and never again after one failed.
//!
//! The host reports a failed write-back once and then calls the pages clean; a second `fsync` would succeed with the
//! data lost. So the first failure is remembered and every later flush repeats it. Flushes are serialised because one
//! that finds nothing left to sync must not return while another still syncs writes that it has to cover.
//! The gate does not know what is flushed.

use std::io;

use parking_lot::Mutex;

use super::DeviceError;

/// Serialises flushes and remembers the first failure.
#[derive(Debug, Default)]
pub(super) struct FlushGate {
    failure: Mutex<Option<String>>,
}

impl FlushGate {
    /// Runs `sync` unless an earlier one failed. `sync` names what it worked on when it fails.
    pub fn pass(&self, sync: impl FnOnce() -> Result<(), (String, io::Error)>) -> Result<(), DeviceError> {
        let mut failure = self.failure.lock();
        if let Some(first) = &*failure {
            let what =
                format!("flush refused, since an earlier one failed and its writes may be lost ({first})");
            return Err(DeviceError::refused(io::ErrorKind::Other, what));
        }
        sync().map_err(|(what, source)| {
            *failure = Some(format!("{what}: {source}"));
            // Never `NoSpace`: the caller could not make room and try again.
            DeviceError::Io { what, source }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_failed() {
        let gate = FlushGate::default();
        gate.pass(|| Ok(())).unwrap();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = gate.pass(|| Err(("sync of x".into(), full))).unwrap_err();
        assert!(matches!(error, DeviceError::Io { .. }));
        let error = gate.pass(|| unreachable!("a failed gate must not sync")).unwrap_err();
        assert!(error.to_string().contains("sync of x"), "{error}");
    }
}
