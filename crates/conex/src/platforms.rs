//! Which platforms' programs this machine runs.

use conex_oci::Platform;

/// Says whether programs of a platform run here, and if not, what would make them.
pub fn can_run(platform: &Platform) -> Result<(), String> {
    let registrations = std::path::Path::new("/proc/sys/fs/binfmt_misc");
    if platform.os != "linux" {
        return Err("conex runs Linux programs only".to_owned());
    }
    match conex_exec::foreign_run(&platform.architecture, registrations) {
        conex_exec::ForeignRun::Native | conex_exec::ForeignRun::Emulated { .. } => Ok(()),
        conex_exec::ForeignRun::Impossible { reason } => Err(reason),
    }
}
