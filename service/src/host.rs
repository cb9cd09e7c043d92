//! Which machine this is.

/// The host's name, asked of the kernel: /proc/sys may be hidden from a service.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
