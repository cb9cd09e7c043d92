//! What lies under a folder: file system, mount, and the devices below as the kernel knows them.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, Process};
use rustix::fs::{AtFlags, CWD, StatxFlags, major, minor, stat, statx};
use serde::Serialize;

/// The file system and what is below it; what could not be learned is absent.
#[derive(Debug, Default, Serialize)]
pub(super) struct Ground {
    pub(super) file_system: String,
    /// What is mounted, e.g. `/dev/sda1`.
    pub(super) source: String,
    pub(super) mounted_at: PathBuf,
    /// Options of the mount and of the file system, in alphabetical order.
    pub(super) options: Vec<String>,
    /// From the top to the bottom.
    pub(super) devices: Vec<Device>,
}

/// A block device.
#[derive(Debug, Default, Serialize)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) model: Option<String>,
    /// `write back`: it has a cache that forgets without power, and is told to empty it; `write through`: the kernel need not tell it.
    pub(super) write_cache: Option<String>,
    pub(super) is_removable: bool,
    /// The file that stands for the device.
    pub(super) backing_file: Option<PathBuf>,
}

/// What kind of thing keeps the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Platters.
    Rotating,
    /// Flash behind SATA, NVMe or USB; also what a RAID controller shows.
    Flash,
    /// An SD card or eMMC.
    Card,
    /// A disk of a virtual machine: what it is really is up to the host.
    Virtual,
    /// Made of other devices: LVM, encryption, software RAID.
    Stacked,
    /// A file that stands for a device.
    Loop,
    /// Memory.
    Memory,
    /// Nothing is known of it.
    #[default]
    Unknown,
}

impl Ground {
    /// What lies under a folder.
    pub(super) fn below(dir: &Path) -> Self {
        let Some(mount) = mount_of(dir) else { return Self::default() };
        let options = mount.mount_options.into_iter().chain(mount.super_options);
        let mut options: Vec<_> = options.map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}={value}"))).collect();
        options.sort();
        options.dedup();
        let source = mount.mount_source.unwrap_or_default();
        // Some file systems (btrfs) have a number that is no device's.
        let number = if mount.majmin.starts_with("0:") { number_of(Path::new(&source)) } else { Some(mount.majmin) };
        let mut devices = Vec::new();
        if let Some(number) = number {
            collect(Path::new("/sys/dev/block"), &number, &mut devices);
        }
        Self { file_system: mount.fs_type, source, mounted_at: mount.mount_point, options, devices }
    }

    /// The devices that keep the bytes.
    pub(super) fn bottom(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|device| device.kind != Kind::Stacked)
    }
}

fn mount_of(dir: &Path) -> Option<MountInfo> {
    let found = statx(CWD, dir, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    let is_asked = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let mounts = Process::myself().and_then(|process| process.mountinfo()).ok()?;
    mounts.into_iter().find(|mount| is_asked && mount.mnt_id as u64 == found.stx_mnt_id)
}

/// `major:minor` of a block device's file.
fn number_of(file: &Path) -> Option<String> {
    let is_device = std::fs::metadata(file).is_ok_and(|metadata| metadata.file_type().is_block_device());
    let number = stat(file).ok().filter(|_| is_device)?.st_rdev;
    Some(format!("{}:{}", major(number), minor(number)))
}

/// The device with this number, and those that it is made of.
fn collect(numbers: &Path, number: &str, devices: &mut Vec<Device>) {
    let Ok(mut folder) = numbers.join(number).canonicalize() else { return };
    // A partition is a part of its disk.
    if folder.join("partition").exists() {
        folder.pop();
    }
    let device = Device::read(&folder);
    if devices.iter().any(|known| known.name == device.name) {
        return;
    }
    devices.push(device);
    for below in std::fs::read_dir(folder.join("slaves")).into_iter().flatten().flatten() {
        if let Some(number) = text(&below.path().join("dev")) {
            collect(numbers, &number, devices);
        }
    }
}

impl Device {
    /// Reads a folder of `/sys/block`.
    fn read(folder: &Path) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let model = text(&folder.join("device/model"));
        let driver =
            folder.join("device/driver").canonicalize().ok().and_then(|driver| Some(driver.file_name()?.to_string_lossy().into_owned()));
        let is_flag = |file: &str, value: &str| text(&folder.join(file)).is_some_and(|found| found == value);
        let maker = format!("{} {}", text(&folder.join("device/vendor")).unwrap_or_default(), model.as_deref().unwrap_or_default());
        let is_virtual = driver.is_some_and(|driver| driver.starts_with("virtio"))
            || ["QEMU", "VMware", "VBOX", "Virtual", "Amazon", "Google", "Msft"].iter().any(|word| maker.contains(word));
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let kind = match () {
            () if begins(&["loop"]) => Kind::Loop,
            () if begins(&["dm-", "md"]) => Kind::Stacked,
            () if begins(&["ram", "zram", "pmem"]) => Kind::Memory,
            () if begins(&["mmcblk"]) => Kind::Card,
            () if is_virtual || begins(&["vd", "xvd", "nbd", "rbd"]) => Kind::Virtual,
            () if is_flag("queue/rotational", "1") => Kind::Rotating,
            () if is_flag("queue/rotational", "0") => Kind::Flash,
            () => Kind::Unknown,
        };
        Self {
            kind,
            model,
            write_cache: text(&folder.join("queue/write_cache")),
            is_removable: is_flag("removable", "1"),
            backing_file: text(&folder.join("loop/backing_file")).map(PathBuf::from),
            name,
        }
    }
}

fn text(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{Ground, Kind, collect};

    #[test]
    fn an_encrypted_partition_leads_to_its_disk() {
        let sys = tempfile::tempdir().expect("a folder");
        let put = |file: &str, text: &str| {
            let file = sys.path().join(file);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, text).expect("a file");
        };
        put("block/dm-0/dev", "253:0\n");
        put("block/sda/queue/rotational", "1\n");
        put("block/sda/queue/write_cache", "write back\n");
        put("block/sda/device/model", "WDC WD10\n");
        put("block/sda/sda2/partition", "2\n");
        put("block/sda/sda2/dev", "8:2\n");
        put("numbers/none", "");
        std::fs::create_dir_all(sys.path().join("block/dm-0/slaves")).expect("a folder");
        symlink("../../sda/sda2", sys.path().join("block/dm-0/slaves/sda2")).expect("a link");
        symlink("../block/dm-0", sys.path().join("numbers/253:0")).expect("a link");
        symlink("../block/sda/sda2", sys.path().join("numbers/8:2")).expect("a link");
        let mut devices = Vec::new();
        collect(&sys.path().join("numbers"), "253:0", &mut devices);
        let seen: Vec<_> = devices.iter().map(|device| (device.name.as_str(), device.kind)).collect();
        assert_eq!(seen, [("dm-0", Kind::Stacked), ("sda", Kind::Rotating)]);
        let disk = &devices[1];
        assert_eq!((disk.model.as_deref(), disk.write_cache.as_deref(), disk.is_removable), (Some("WDC WD10"), Some("write back"), false));
    }

    #[test]
    fn the_file_system_of_a_folder_is_known() {
        let ground = Ground::below("/proc/self".as_ref());
        assert_eq!((ground.file_system.as_str(), ground.devices.len()), ("proc", 0), "{ground:?}");
    }
}
