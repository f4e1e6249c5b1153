//! What the machine has: memory, control group, cores.
//!
//! Memory is the least of `MemAvailable` (what the kernel thinks can be used without swapping), and what the memory
//! controllers of the process's control groups leave: limit less use, for version 2 (`memory.max`, `memory.current`, of
//! the group and of every group above it) and version 1 (`memory.limit_in_bytes`, `memory.usage_in_bytes`). Page cache
//! counts as use there though the kernel would give it up, so the figure errs on the small side.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::{Bytes, KIB, Machine};

/// What to assume where nothing can be read: not Linux, or no /proc.
const FALLBACK: Bytes = Bytes(4 << 30);

/// The machine whose root directory is `root`.
pub(super) fn detect(root: &Path) -> Machine {
    let read = |path: PathBuf| fs::read_to_string(root.join(path)).ok();
    let available = read("proc/meminfo".into()).as_deref().and_then(mem_available);
    let groups = read("proc/self/cgroup".into()).unwrap_or_default();
    let limits = memory_groups(&groups).into_iter().filter_map(|group| {
        let number = |name: &str| read(group.dir.join(name))?.trim().parse::<u64>().ok();
        // "max" is no number, and so no limit.
        let (limit, used) = (number(group.limit)?, number(group.used)?);
        Some(Bytes(limit.saturating_sub(used)))
    });
    let host = limits.chain(available).min().unwrap_or(FALLBACK);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    Machine::new(host, cores)
}

/// `MemAvailable` of /proc/meminfo.
fn mem_available(meminfo: &str) -> Option<Bytes> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(KIB).map(Bytes)
}

/// A directory of a memory controller and the names of its files.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    dir: PathBuf,
    limit: &'static str,
    used: &'static str,
}

/// The groups that limit a process with this /proc/self/cgroup, from its own up to the root. Inside a container the
/// path may name a directory that is not mounted there; the root of the mount, which is always in the list, is then the
/// container's own.
fn memory_groups(cgroup: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (mount, limit, used) = match (hierarchy, controllers) {
            ("0", "") => ("sys/fs/cgroup", "memory.max", "memory.current"),
            (_, list) if list.split(',').any(|c| c == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        let dirs = path.ancestors().map(|dir| Path::new(mount).join(dir));
        groups.extend(dirs.map(|dir| Group { dir, limit, used }));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BudgetId, Config, GIB, MIB};

    /// A directory that is removed again.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("bursar-detect-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Root(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: &str = "MemTotal:       16384000 kB\nMemFree:  100 kB\nMemAvailable:    8388608 kB\n";

    #[test]
    fn memory_is_what_the_kernel_says_is_available() {
        let root = Root::new("plain", &[("proc/meminfo", MEMINFO)]);
        assert_eq!(detect(&root.0).host_memory, Bytes(8 * GIB));
    }

    #[test]
    fn a_version_2_group_limits_it_and_so_does_every_group_above() {
        let root = Root::new(
            "v2",
            &[
                ("proc/meminfo", MEMINFO),
                ("proc/self/cgroup", "0::/pod/app\n"),
                ("sys/fs/cgroup/pod/app/memory.max", "max\n"),
                ("sys/fs/cgroup/pod/app/memory.current", "1\n"),
                ("sys/fs/cgroup/pod/memory.max", "1073741824\n"),
                ("sys/fs/cgroup/pod/memory.current", "73741824\n"),
            ],
        );
        assert_eq!(detect(&root.0).host_memory, Bytes(1_000_000_000));
    }

    #[test]
    fn a_version_1_group_limits_it() {
        let root = Root::new(
            "v1",
            &[
                ("proc/meminfo", MEMINFO),
                ("proc/self/cgroup", "4:cpu,cpuacct:/x\n9:memory:/x\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n"),
            ],
        );
        assert_eq!(detect(&root.0).host_memory, Bytes(512 * MIB));
    }

    #[test]
    fn without_any_figure_a_modest_machine_is_assumed() {
        assert_eq!(detect(Path::new("/nonexistent")).host_memory, FALLBACK);
        let config = Config::for_machine(Machine::new(0u64, 0));
        config.check().unwrap();
        assert!(config.budget(BudgetId::GPU).is_some());
    }
}
