//! What was fetched once, in the user's cache folder.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result};

/// A lock per folder, held while it is made: threads are one process, and would meet. Not one lock for all: what is made may need
/// something else to be made first, and would wait for itself.
static MAKING: LazyLock<Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>> = LazyLock::new(Mutex::default);

/// Where something of that name is: it may be there or not.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".cache"));
    let cache = cache.or(home).context("there is no cache folder: set HOME or XDG_CACHE_HOME")?;
    Ok(cache.join("tickr").join(name))
}

/// Has the folder made, unless it is there.
///
/// It is made beside its place, so that nobody ever finds half of it, and two processes that fetch it do not meet.
pub(crate) fn fill(folder: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let making = Arc::clone(MAKING.lock().unwrap_or_else(PoisonError::into_inner).entry(folder.to_owned()).or_default());
    let _making = making.lock().unwrap_or_else(PoisonError::into_inner);
    if folder.exists() {
        return Ok(());
    }
    let part = folder.with_extension(format!("part-{}", process::id()));
    let made = make(&part).and_then(|()| {
        let moved = fs::rename(&part, folder);
        // Somebody else was quicker: theirs is as good.
        if folder.exists() { Ok(()) } else { moved.with_context(|| format!("could not make {}", folder.display())) }
    });
    let _ = fs::remove_dir_all(&part);
    made
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use anyhow::bail;

    use super::*;
    use crate::folder::Folder;

    #[test]
    fn what_fails_leaves_nothing() {
        let base = Folder::create().unwrap();
        let place = base.join("thing");
        let half = |part: &Path| {
            fs::create_dir(part)?;
            bail!("no network")
        };
        assert_eq!(fill(&place, half).unwrap_err().to_string(), "no network");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn threads_do_not_meet() {
        let base = Folder::create().unwrap();
        let place = base.join("thing");
        let make = |part: &Path| Ok(fs::create_dir(part)?);
        let made = thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(|| fill(&place, make)));
            threads.map(|thread| thread.join().unwrap().is_ok())
        });
        assert_eq!(made, [true; 8]);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    /// As pip is fetched for the newest PostgreSQL, which is made by it.
    #[test]
    fn what_is_made_may_have_something_else_made() {
        let base = Folder::create().unwrap();
        let (place, tool) = (base.join("thing"), base.join("tool"));
        let (done, is_done) = mpsc::channel();
        // On a thread that nobody joins: a lock that waits for itself would hold up the test for ever.
        thread::spawn(move || {
            let made = fill(&place, |part| {
                fill(&tool, |part| Ok(fs::create_dir(part)?))?;
                Ok(fs::create_dir(part)?)
            });
            done.send(made.is_ok() && tool.exists() && place.exists())
        });
        assert_eq!(is_done.recv_timeout(Duration::from_secs(20)), Ok(true));
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let base = Folder::create().unwrap();
        let place = base.join("thing");
        fill(&place, |part| Ok(fs::create_dir(part)?)).unwrap();
        fill(&place, |_| bail!("made twice")).unwrap();
        assert!(place.exists());
    }
}
