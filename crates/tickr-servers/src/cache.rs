//! What was fetched once, in the user's cache folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// Held while something is made: threads are one process, and would meet.
static MAKING: Mutex<()> = Mutex::new(());

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
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
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
        let made = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(|| fill(&place, make)));
            threads.map(|thread| thread.join().unwrap().is_ok())
        });
        assert_eq!(made, [true; 8]);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
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
