//! What wakes the thread that looks for the commits of others: on Linux a write to the file of the write-ahead log
//! (<https://man7.org/linux/man-pages/man7/inotify.7.html>), elsewhere time alone.
//!
//! The write comes before its commit can be seen, which waits for the disk, so that it only says when to look closely.

pub(crate) use system::{Bell, Log, wait};

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

    /// Ends a [`wait`] from another thread.
    #[derive(Clone, Debug)]
    pub(crate) struct Bell(Arc<OwnedFd>);

    impl Bell {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
        }

        pub(crate) fn ring(&self) {
            // Full: it was rung before, and nobody has heard it yet.
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }
    }

    /// Notices writes to a file.
    #[derive(Debug)]
    pub(crate) struct Log(OwnedFd);

    impl Log {
        pub(crate) fn watch(path: &Path) -> io::Result<Self> {
            let log = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            add_watch(&log, path, WatchFlags::MODIFY)?;
            Ok(Self(log))
        }
    }

    /// Waits until the bell rings, the log is written, or the time is over (`None`: never); says whether the log was written since
    /// the last time that it was waited for.
    pub(crate) fn wait(bell: &Bell, log: Option<&Log>, longest: Option<Duration>) -> bool {
        let timeout = longest.and_then(|longest| Timespec::try_from(longest).ok());
        let mut sources = vec![PollFd::new(&bell.0, PollFlags::IN)];
        sources.extend(log.map(|log| PollFd::new(&log.0, PollFlags::IN)));
        // Interrupted: whoever waits looks, and waits again.
        let _ = poll(&mut sources, timeout.as_ref());
        empty(&bell.0);
        log.is_some_and(|log| empty(&log.0))
    }

    /// Reads what is there; whether there was anything.
    fn empty(source: &OwnedFd) -> bool {
        let (mut buffer, mut any) = ([0_u8; 4_096], false);
        while matches!(rustix::io::read(source, &mut buffer), Ok(n) if n > 0) {
            any = true;
        }
        any
    }
}

#[cfg(any(test, not(target_os = "linux")))]
mod timed {
    use std::io;
    use std::path::Path;
    use std::sync::{Arc, Condvar, Mutex, PoisonError};
    use std::time::Duration;

    /// Ends a [`wait`] from another thread.
    #[derive(Clone, Debug)]
    pub(crate) struct Bell(Arc<(Mutex<bool>, Condvar)>);

    impl Bell {
        #[expect(clippy::unnecessary_wraps, reason = "elsewhere a bell is a resource of the system")]
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(Arc::default()))
        }

        pub(crate) fn ring(&self) {
            *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.0.1.notify_one();
        }
    }

    /// Notices nothing.
    #[derive(Debug)]
    pub(crate) struct Log(());

    impl Log {
        pub(crate) fn watch(_path: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Waits until the bell rings or the time is over.
    pub(crate) fn wait(bell: &Bell, _log: Option<&Log>, longest: Option<Duration>) -> bool {
        let (rung, change) = &*bell.0;
        let mut rung = rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            let Some(longest) = longest else {
                rung = change.wait(rung).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let timeout;
            (rung, timeout) = change.wait_timeout(rung, longest).unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                break;
            }
        }
        *rung = false;
        false
    }
}

#[cfg(not(target_os = "linux"))]
use timed as system;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Longer than a test may take: whoever waits for so long has missed what it waited for.
    const LONG: Option<Duration> = Some(Duration::from_secs(600));

    #[test]
    fn the_bell_ends_the_waiting_once() {
        let bell = Bell::new().unwrap();
        bell.ring();
        bell.ring();
        assert!(!wait(&bell, None, LONG), "nothing was written");
        assert!(!wait(&bell, None, Some(Duration::from_millis(1))), "it was heard");
        let ringer = bell.clone();
        let ringer = thread::spawn(move || ringer.ring());
        wait(&bell, None, None);
        ringer.join().unwrap();
    }

    #[test]
    fn the_bell_of_other_systems_ends_the_waiting_too() {
        let bell = timed::Bell::new().unwrap();
        bell.ring();
        assert!(!timed::wait(&bell, None, None));
        assert!(!timed::wait(&bell, None, Some(Duration::from_millis(1))), "it was heard");
        let ringer = bell.clone();
        let ringer = thread::spawn(move || ringer.ring());
        timed::wait(&bell, None, LONG);
        ringer.join().unwrap();
        assert!(timed::Log::watch("a".as_ref()).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_write_ends_the_waiting() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let (bell, log) = (Bell::new().unwrap(), Log::watch(file.path()).unwrap());
        file.write_all(b"a").unwrap();
        file.write_all(b"b").unwrap();
        assert!(wait(&bell, Some(&log), LONG));
        assert!(!wait(&bell, Some(&log), Some(Duration::from_millis(1))), "both were seen");
        let writer = thread::spawn(move || file.write_all(b"c").map(|()| file));
        assert!(wait(&bell, Some(&log), LONG));
        let _file = writer.join().unwrap().unwrap();
        bell.ring();
        assert!(!wait(&bell, Some(&log), LONG));
    }
}
