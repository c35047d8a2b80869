//! Several processes under Slurm's `srun`: on a cluster of one machine, which a test starts where
//! Slurm is installed and it may.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::program::{program, succeeds};
use crate::run::small;

/// A Slurm of this machine alone, ended when dropped.
struct Cluster(PathBuf);

impl Cluster {
    /// `None`, said, where there can be none.
    fn start(folder: &Path) -> Option<Self> {
        let (name, ports) = (hostname(), [free_port(), free_port()]);
        let at = |name: &str| folder.join(name);
        for name in ["state", "spool"] {
            std::fs::create_dir_all(at(name)).expect("writable");
        }
        // Without munge, whose key and socket are the system's; with more processors than there may
        // be; and what waits for a dead process is killed after seconds, not after half a minute.
        let text = format!(
            "ClusterName=local\nSlurmctldHost={name}(127.0.0.1)\nAuthType=auth/none\n\
             CredType=cred/none\nSlurmUser=root\nSlurmdUser=root\nSlurmctldPort={}\nSlurmdPort={}\n\
             StateSaveLocation={state}\nSlurmdSpoolDir={spool}\nSlurmctldPidFile={ctld}.pid\n\
             SlurmdPidFile={d}.pid\nSlurmctldLogFile={ctld}.log\nSlurmdLogFile={d}.log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\n\
             SlurmdParameters=config_overrides\nReturnToService=2\nKillWait=2\n\
             NodeName={name} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN\n\
             PartitionName=main Nodes={name} Default=YES State=UP\n",
            ports[0],
            ports[1],
            state = at("state").display(),
            spool = at("spool").display(),
            ctld = at("slurmctld").display(),
            d = at("slurmd").display(),
        );
        std::fs::write(at("slurm.conf"), text).expect("writable");
        let cluster = Self(folder.to_owned());
        let started = ["slurmctld", "slurmd"].iter().all(|daemon| {
            let status = cluster.command(daemon).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        });
        if started && cluster.is_up() {
            return Some(cluster);
        }
        println!("skipped: Slurm is not installed, or does not start here");
        None
    }

    fn is_up(&self) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            let nodes = self.command("sinfo").args(["-h", "-o", "%T"]).output();
            if nodes.is_ok_and(|nodes| nodes.stdout.starts_with(b"idle")) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        false
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("SLURM_CONF", self.0.join("slurm.conf"));
        command
    }

    fn srun(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = self.command("srun");
        command
            .args(["-n", "2", "--mpi=pmix", "--kill-on-bad-exit=1"])
            .arg(program())
            .args(arguments)
            .current_dir(folder)
            .env("RAYON_NUM_THREADS", "1");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in ["slurmd", "slurmctld"] {
            let pid = std::fs::read_to_string(self.0.join(daemon).with_extension("pid"));
            let kill = |pid: String| Command::new("kill").arg(pid.trim()).status();
            let _ = pid.map(kill);
        }
    }
}

fn hostname() -> String {
    let name = Command::new("hostname").arg("-s").output().expect("hostname runs");
    String::from_utf8_lossy(&name.stdout).trim().to_owned()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What `srun` starts is what `mpirun` starts: processes that know each other; a signal, and the
/// death of one of them, end the job with a saved state.
#[test]
fn srun_just_works() {
    if !cfg!(feature = "mpi") {
        println!("skipped: built without the feature mpi");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let Some(cluster) = Cluster::start(&at.join("slurm")) else { return };
    let micro = ["--set", "train.micro_batch=8"];
    let output = cluster.srun(at, &small("run", "two", &micro)).output().expect("srun runs");
    assert!(output.status.success(), "{}", said(&output));
    succeeds(at, &small("pretrain", "one", &micro));
    let losses = |run: &str| -> Vec<f64> {
        let text = std::fs::read_to_string(at.join(run).join("metrics.jsonl")).expect("readable");
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        text.lines().map(|text| line(text)["loss"].as_f64().expect("a loss")).collect()
    };
    let (one, two) = (losses("one"), losses("two"));
    assert_eq!(one.len(), two.len());
    assert!(one.iter().zip(&two).all(|(a, b)| (a / b - 1.0).abs() < 1e-5), "{one:?} {two:?}");
    let audit = succeeds(at, &["audit", "two"]);
    assert!(audit.contains("6 steps"), "{audit}");

    let endless = [&micro[..], &["--set", "train.steps=100000"]].concat();
    let walltime = [&endless[..], &["--walltime", "3s"]].concat();
    let output = cluster.srun(at, &small("pretrain", "r", &walltime)).output().expect("srun runs");
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert_eq!(said(&output).matches("ahead of the walltime").count(), 1, "{}", said(&output));

    let resume = ["pretrain", "--resume", "--out", "r", "-q"];
    let child = cluster.srun(at, &resume).stderr(Stdio::piped()).spawn().expect("srun runs");
    let lock = at.join("r/.lock");
    crate::one_writer::wait_for("the run", || {
        std::fs::read_to_string(&lock).is_ok_and(|text| text.contains("\"pid\":"))
    });
    let before = steps(at);
    crate::one_writer::wait_for("a step", || steps(at) > before);
    let owner: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&lock).expect("readable")).expect("JSON");
    let kill = Command::new("kill").args(["-KILL", &owner["pid"].to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let dead = Instant::now();
    let output = child.wait_with_output().expect("ends");
    assert!(!output.status.success(), "{}", said(&output));
    assert!(dead.elapsed() < Duration::from_secs(60), "the other waited for the dead");
    let again = [&resume[..], &["--walltime", "3s"]].concat();
    let output = cluster.srun(at, &again).output().expect("srun runs");
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
}

fn steps(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("r/metrics.jsonl")).map_or(0, |text| text.lines().count())
}
