//! Energy while work is done.
//!
//! Linux counts the energy of processor packages and their memory under
//! `/sys/class/powercap` (Intel's RAPL and AMD's likeness of it; the kernel's documentation,
//! power/powercap). Since 2020 only root may read it. Where it cannot be read, energy is the
//! processor time this process took times `cost.core_watts`, and said to be a model. What a
//! device beside the processor takes is its own count, by its backend's [`Monitor`] (NVML for
//! NVIDIA's GPUs).

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{CostConfig, KILOWATT_HOUR};
use crate::seam::Monitor;

const COUNTERS: &str = "/sys/class/powercap";
/// What energies from them say of their source.
const RAPL: &str = "RAPL counters of the machine's processors and memory";
/// Between the sources of energies that are added up.
const IN_PART: &str = "; in part ";
/// Two counters of one count, read one after the other, are this near to each other, in microjoules.
const SAME_COUNT: f64 = 1e6;
/// Time between two readings. The counters start anew after some 10^5 joules, which the
/// largest machines take minutes for.
const EVERY: Duration = Duration::from_secs(20);

/// Energy from a beginning to an end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// At the meter, in joules: that of the devices times `cost.overhead`.
    pub joules: f64,
    /// Where the number is from, such as `RAPL counters of the machine's processors and memory`.
    pub source: String,
}

impl Energy {
    /// Of both together, with the sources of both.
    pub(crate) fn and(self, other: Self) -> Self {
        let mut source = self.source;
        for part in other.source.split(IN_PART) {
            if source.split(IN_PART).all(|known| known != part) {
                source = format!("{source}{IN_PART}{part}");
            }
        }
        Self { joules: self.joules + other.joules, source }
    }

    /// Energy, carbon and where the number is from, in words.
    pub(crate) fn in_words(&self, cost: &CostConfig) -> String {
        let (kwh, carbon) = (self.joules / KILOWATT_HOUR, cost.carbon(self.joules));
        format!("{kwh:.2e} kWh, {carbon:.2e} kg CO2; {}", self.source)
    }

    /// Of `processes` on `machines` of one kind, when this is what one process measured: counters
    /// are of its machine, processor time is its own.
    fn of_all(self, processes: usize, machines: usize) -> Self {
        if processes == 1 {
            return self;
        }
        let times = if self.source.starts_with(RAPL) { machines } else { processes };
        let source = format!("{}; of process 0, times {times}", self.source);
        Self { joules: self.joules * times as f64, source }
    }
}

/// Counts from when it is made.
pub struct Meter {
    counters: Arc<Mutex<Vec<Counter>>>,
    /// Dropped, it ends the thread that reads the counters in time.
    _reading: Sender<()>,
    started: Instant,
    busy: f64,
    device: Option<(Monitor, Option<f64>)>,
}

/// One energy counter of the machine, in microjoules; it starts anew at `range`.
#[derive(Debug)]
struct Counter {
    file: PathBuf,
    range: f64,
    last: f64,
    /// Since the start; `None` once it could not be read.
    sum: Option<f64>,
}

impl Meter {
    /// Starts counting; `device` tells of the device that is computed on, where it is not the
    /// processor.
    pub fn start(device: Option<Monitor>) -> Self {
        Self::at(Path::new(COUNTERS), EVERY, device)
    }

    fn at(folder: &Path, every: Duration, device: Option<Monitor>) -> Self {
        let counters = Arc::new(Mutex::new(counters(folder)));
        let (reading, stop) = channel();
        if !lock(&counters).is_empty() {
            let counters = counters.clone();
            std::thread::spawn(move || {
                while stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    lock(&counters).iter_mut().for_each(Counter::read);
                }
            });
        }
        let device = device.map(|ask| {
            let joules = ask().and_then(|usage| usage.joules);
            (ask, joules)
        });
        let (started, busy) = (Instant::now(), processor_seconds());
        Self { counters, _reading: reading, started, busy, device }
    }

    /// The energy since the start: of `processes` alike on `machines` alike, where this is one of
    /// several that work together, each on a device of its own.
    pub fn read(&self, cost: &CostConfig, processes: usize, machines: usize) -> Energy {
        let mut energy = self.processors(cost).of_all(processes, machines);
        if let Some((ask, before)) = &self.device {
            let now = ask().and_then(|usage| usage.joules);
            match now.zip(*before) {
                Some((now, before)) if now >= before => {
                    energy.joules += (now - before) * cost.overhead * processes as f64;
                    energy.source.push_str(", and the device's own counter (NVML for GPUs)");
                }
                _ => {
                    energy.source.push_str("; the device does not count its own, which is left out")
                }
            }
        }
        energy
    }

    /// The energy of processors and memory since the start.
    fn processors(&self, cost: &CostConfig) -> Energy {
        let mut counters = lock(&self.counters);
        counters.iter_mut().for_each(Counter::read);
        let counted: Option<f64> = counters.iter().map(|counter| counter.sum).sum();
        if let Some(microjoules) = counted.filter(|_| !counters.is_empty()) {
            return Energy { joules: 1e-6 * microjoules * cost.overhead, source: RAPL.into() };
        }
        let busy = match processor_seconds() - self.busy {
            busy if busy > 0.0 => busy,
            _ => self.started.elapsed().as_secs_f64(),
        };
        Energy {
            joules: busy * cost.core_watts * cost.overhead,
            source: format!(
                "a model: processor time at {} W a core (no energy counter can be read)",
                cost.core_watts
            ),
        }
    }
}

fn lock(counters: &Mutex<Vec<Counter>>) -> std::sync::MutexGuard<'_, Vec<Counter>> {
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counter {
    fn read(&mut self) {
        let now = number(&self.file);
        let passed = now
            .map(|now| now - self.last)
            .map(|passed| if passed < 0.0 { passed + self.range } else { passed });
        self.sum = self.sum.zip(passed).map(|(sum, passed)| sum + passed);
        self.last = now.unwrap_or(self.last);
    }

    /// Whether `other` reads what this one does, before and after it.
    fn shows_what(&self, other: &Self) -> bool {
        let read = || Some([number(&self.file)?, number(&other.file)?, number(&self.file)?]);
        read().is_some_and(|[before, between, after]| {
            let passed = |now: f64| (now - before).rem_euclid(self.range);
            let slack = |now: f64| passed(now + SAME_COUNT);
            slack(between) <= slack(after) + SAME_COUNT
        })
    }
}

/// A counter, and what it counts.
#[derive(Debug)]
struct Zone {
    /// Names of the package and of its part, if it is of one.
    of: (String, String),
    counter: Counter,
}

impl Zone {
    /// The zone in `path`, if packages or memory are counted there. Names: `intel-rapl:0` is a
    /// package, `intel-rapl:0:1` a part of it; parts other than memory are in the package's count.
    fn at(path: &Path) -> Option<Self> {
        let name = |path: &Path| {
            let text = std::fs::read_to_string(path.join("name")).ok()?;
            Some(text.trim().to_owned())
        };
        let (above, _) = path.to_str()?.rsplit_once(':')?;
        let own = name(path)?;
        let of = match path.file_name()?.to_str()?.matches(':').count() {
            1 if own.starts_with("package") => (own, String::new()),
            _ if own == "dram" => (name(Path::new(above)).unwrap_or_default(), own),
            _ => return None,
        };
        let file = path.join("energy_uj");
        let range = number(&path.join("max_energy_range_uj"))?;
        let last = number(&file)?;
        Some(Self { of, counter: Counter { file, range, last, sum: Some(0.0) } })
    }

    /// Whether what `other` counts is in this one's count: the same name, reached another way, or
    /// another die of the package, where all dies show what the package takes (Linux on processors
    /// of AMD; those of Intel with several dies count each).
    fn holds(&self, other: &Self) -> bool {
        let package = |zone: &Self| Some(zone.of.0.split_once("-die-")?.0.to_owned());
        let dies =
            self.of.1 == other.of.1 && package(self).is_some_and(|of| package(other) == Some(of));
        self.of == other.of || dies && self.counter.shows_what(&other.counter)
    }
}

/// The counters of packages, and of memory beside them, each count once.
fn counters(folder: &Path) -> Vec<Counter> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut zones: Vec<Zone> = entries.filter_map(|entry| Zone::at(&entry.path())).collect();
    zones.sort_by(|a, b| (&a.of, &a.counter.file).cmp(&(&b.of, &b.counter.file)));
    let mut kept: Vec<Zone> = Vec::new();
    for zone in zones {
        if !kept.iter().any(|known| known.holds(&zone)) {
            kept.push(zone);
        }
    }
    kept.into_iter().map(|zone| zone.counter).collect()
}

fn number(path: &Path) -> Option<f64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Processor time this process has taken, in seconds, where the system tells it; else 0.
fn processor_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + 1e-6 * time.tv_usec() as f64;
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, files: [&str; 3]) {
        let place = folder.join(name);
        std::fs::create_dir_all(&place).expect("writable");
        for (file, text) in ["name", "energy_uj", "max_energy_range_uj"].iter().zip(files) {
            std::fs::write(place.join(file), text).expect("writable");
        }
    }

    #[test]
    fn counters_are_added_up_and_may_start_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let cost = CostConfig { overhead: 2.0, ..CostConfig::default() };
        put(folder.path(), "intel-rapl:0", ["package-0\n", "900000\n", "1000000\n"]);
        put(folder.path(), "intel-rapl:0:0", ["core\n", "100\n", "1000000\n"]);
        put(folder.path(), "intel-rapl:0:1", ["dram\n", "0\n", "1000000\n"]);
        let meter = Meter::at(folder.path(), Duration::from_secs(60), None);
        put(folder.path(), "intel-rapl:0", ["package-0\n", "400000\n", "1000000\n"]);
        put(folder.path(), "intel-rapl:0:0", ["core\n", "300000\n", "1000000\n"]);
        put(folder.path(), "intel-rapl:0:1", ["dram\n", "250000\n", "1000000\n"]);
        // 0.5 J of the package, which went round, and 0.25 J of memory; twice at the meter.
        let energy = meter.read(&cost, 1, 1);
        assert!((energy.joules - 1.5).abs() < 1e-9, "{energy:?}");
        assert!(energy.source.contains("RAPL"));
        std::fs::remove_dir_all(folder.path().join("intel-rapl:0")).expect("there");
        assert!(meter.read(&cost, 1, 1).source.contains("a model"), "no half of a number");
    }

    #[test]
    fn what_is_shown_twice_is_counted_once() {
        let energy = |before: &[(&str, &str, u64)], passed: u64| {
            let folder = tempfile::tempdir().expect("a folder");
            let show = |name: &str, of: &str, count: u64| {
                put(folder.path(), name, [of, &count.to_string(), "262143328850"]);
            };
            before.iter().for_each(|(name, of, count)| show(name, of, *count));
            let meter = Meter::at(folder.path(), Duration::from_secs(60), None);
            before.iter().for_each(|(name, of, count)| show(name, of, count + passed));
            let cost = CostConfig { overhead: 1.0, ..CostConfig::default() };
            meter.read(&cost, 1, 1).joules
        };
        // Registers and mapped memory tell of the same package, a moment apart.
        let both = [
            ("intel-rapl:0", "package-0\n", 5_000_000_000),
            ("intel-rapl:0:0", "core\n", 100),
            ("intel-rapl:0:1", "dram\n", 70_000_000),
            ("intel-rapl:1", "psys\n", 9_000_000_000),
            ("intel-rapl-mmio:0", "package-0\n", 5_000_003_000),
            ("intel-rapl-mmio:0:0", "dram\n", 70_000_100),
        ];
        assert!((energy(&both, 4_000_000) - 8.0).abs() < 1e-9);
        let dies = |other: u64| {
            [
                ("intel-rapl:0", "package-0-die-0\n", 5_000_000_000),
                ("intel-rapl:1", "package-0-die-1\n", other),
                ("intel-rapl:2", "package-1-die-2\n", 5_000_000_000),
            ]
        };
        // One count of the package under the name of every die, or one of each die's own.
        assert!((energy(&dies(5_000_000_400), 4_000_000) - 8.0).abs() < 1e-9);
        assert!((energy(&dies(262_143_328_000), 4_000_000) - 12.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_added_up_names_all_its_sources() {
        let of = |joules: f64, source: &str| Energy { joules, source: source.into() };
        let all = of(1.0, "a").and(of(2.0, "b")).and(of(3.0, "a"));
        assert_eq!(all, of(6.0, "a; in part b"));
        assert_eq!(of(1.0, "b").and(all).source, "b; in part a");
    }

    #[test]
    fn without_counters_power_is_a_model_that_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let meter = Meter::at(folder.path(), EVERY, None);
        let busy: u64 = (0..2_000_000u64).map(std::hint::black_box).sum();
        assert!(busy > 0);
        let energy = meter.read(&CostConfig::default(), 1, 1);
        assert!(energy.joules > 0.0 && energy.source.contains("10 W a core"), "{energy:?}");
    }

    #[test]
    fn a_devices_own_count_is_added() {
        use std::sync::atomic::{AtomicU64, Ordering};

        use crate::seam::Usage;
        let folder = tempfile::tempdir().expect("a folder");
        let cost = CostConfig { overhead: 2.0, core_watts: 0.0, ..CostConfig::default() };
        let count = std::sync::Arc::new(AtomicU64::new(0));
        let usage = |joules| Usage { memory_bytes: 0, utilisation: None, joules };
        let counted = count.clone();
        let ask =
            move || Some(usage(Some(100.0 + 7.0 * counted.fetch_add(1, Ordering::Relaxed) as f64)));
        let energy = Meter::at(folder.path(), EVERY, Some(Box::new(ask))).read(&cost, 1, 1);
        assert!((energy.joules - 14.0).abs() < 1e-9, "{energy:?}");
        assert!(energy.source.contains("own counter"), "{energy:?}");
        let each = move || Some(usage(Some(7.0 * count.fetch_add(1, Ordering::Relaxed) as f64)));
        let energy = Meter::at(folder.path(), EVERY, Some(Box::new(each))).read(&cost, 4, 2);
        assert!((energy.joules - 56.0).abs() < 1e-9, "of four devices: {energy:?}");
        let ask = move || Some(usage(None));
        let energy = Meter::at(folder.path(), EVERY, Some(Box::new(ask))).read(&cost, 1, 1);
        assert!(energy.joules == 0.0 && energy.source.contains("left out"), "{energy:?}");
    }
}
