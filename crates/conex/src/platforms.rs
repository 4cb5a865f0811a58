//! Which platforms' programs this machine runs.

use conex_oci::Platform;

/// Says whether programs of a platform run here, and if not, what would make them.
pub fn can_run(platform: &Platform) -> Result<(), String> {
    let host = Platform::host();
    if platform.os != "linux" {
        return Err("conex runs Linux programs only".to_owned());
    }
    let same = platform.architecture == host.architecture;
    // 64-bit x86 and ARM processors run their 32-bit programs.
    let compatible = matches!(
        (host.architecture.as_str(), platform.architecture.as_str()),
        ("amd64", "386") | ("arm64", "arm")
    );
    if same || compatible || conex_exec::binfmt_runs(&platform.architecture) {
        return Ok(());
    }
    Err(format!(
        "install an emulator for it, for example the package `qemu-user-static` with `binfmt-support`, \
         or build for `{host}`"
    ))
}
