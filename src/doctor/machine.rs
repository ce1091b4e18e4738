//! What the doctor asks of the machine that it runs on, without changing anything.

use std::ffi::CString;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The machine; its clock can be another one in tests.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Microseconds since 1970.
    pub clock: fn() -> i64,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine { clock: crate::postgres::unix_micros }
    }
}

/// Bytes that an ordinary user can still write on the file system of a path.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut about = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte, and the structure is written before it is read, which only success allows.
    let about = unsafe {
        if libc::statvfs(path.as_ptr(), about.as_mut_ptr()) != 0 {
            return None;
        }
        about.assume_init()
    };
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

/// True if this process may list and change what is in a folder.
pub(super) fn may_write(folder: &Path) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    // SAFETY: the path ends with a zero byte.
    unsafe { libc::access(path.as_ptr(), libc::R_OK | libc::W_OK | libc::X_OK) == 0 }
}

/// The process that holds a lock on a file, told by the kernel's list, so that nobody is locked out for a moment. `None`
/// if there is none, or the system has no such list.
pub(super) fn lock_holder(file: &Metadata) -> Option<u32> {
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, file.dev(), file.ino())
}

/// Lines are `1: FLOCK  ADVISORY  WRITE 4711 fd:01:131 0 EOF`: process, then device and inode.
fn holder_in(list: &str, device: u64, inode: u64) -> Option<u32> {
    let identity = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
    list.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, "WRITE", process, file, ..] if *file == identity => process.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_device_and_inode() {
        let list = "1: POSIX  ADVISORY  WRITE 12 fd:01:131 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 fd:01:131 0 EOF\n";
        let device = libc::makedev(0xfd, 1);
        assert_eq!(holder_in(list, device, 131), Some(4711));
        assert_eq!(holder_in(list, device, 132), None);
        assert_eq!(holder_in(list, libc::makedev(0xfd, 2), 131), None);
    }

    #[test]
    fn a_lock_that_is_held_shows_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("lock")).unwrap();
        assert_eq!(lock_holder(&file.metadata().unwrap()), None);
        file.try_lock().unwrap();
        assert_eq!(lock_holder(&file.metadata().unwrap()), Some(std::process::id()));
    }

    #[test]
    fn a_disk_has_room_and_a_missing_path_has_none() {
        assert!(free_bytes(Path::new("/")).is_some());
        assert_eq!(free_bytes(Path::new("/nowhere/at/all")), None);
    }
}
