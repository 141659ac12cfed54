//! Calls that may never return: made in a thread of their own, and waited for only so long.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// What `call` returns, if it does so in time. A call that does not goes on, and ends with the process at the latest.
pub fn within<T: Send + 'static>(limit: Duration, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    begin(call).recv_timeout(limit).ok()
}

/// Makes the call, and sends what it returns. Where no thread is to be had it is made here, and waited for to its end.
pub(super) fn begin<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (done, result) = mpsc::channel();
    let call = Arc::new(Mutex::new(Some(call)));
    let make = move || {
        let call = call.lock().take();
        drop(call.map(|call| done.send(call()))); // nobody may wait any more
    };
    let here = make.clone();
    if std::thread::Builder::new().name("patience".into()).spawn(make).is_err() {
        here();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_does_not_return_is_given_up() {
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let (never, end) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(10), move || end.recv()), None);
        drop(never);
    }
}
