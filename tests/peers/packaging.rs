//! The example unit against systemd's own checker, and the container file's promises.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::run;

const INSTALL: &str = "tests/all --install-only";

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// The unit with the program under test in the place of the installed one, which systemd looks for.
fn unit(folder: &Path) -> PathBuf {
    let text = std::fs::read_to_string(packaged("estafette.service")).expect("the unit");
    assert!(text.contains("ExecStart=/usr/bin/estafette serve"), "where it is installed");
    let hides_boot_id = text.lines().any(|line| line.trim() == "ProcSubset=pid");
    assert!(!hides_boot_id, "without the kernel's boot id every kill would count as a power loss");
    let path = folder.join("estafette.service");
    std::fs::write(&path, text.replace("/usr/bin/estafette", env!("CARGO_BIN_EXE_estafette"))).expect("a copy");
    path
}

#[test]
fn systemd_finds_nothing_to_complain_of_in_the_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = unit(folder.path());
    // A complaint is an exit code of its own or a line; the manual page of the unit is on the web.
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&unit);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("cannot start systemd-analyze ({error}); install it with: {INSTALL}"),
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("estafette")).collect();
    assert!(output.status.success() && ours.is_empty(), "{}: {said}", output.status);
}

#[test]
fn the_unit_is_as_closed_as_it_can_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = unit(folder.path());
    let mut command = Command::new("systemd-analyze");
    // Exposure in tenths; 20 is "OK", 90 is what a unit without any hardening has.
    command.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(&unit);
    let table = run(&mut command, INSTALL);
    assert!(table.contains("Overall exposure level"), "{table}");
}

#[test]
fn the_image_runs_without_root_is_checked_and_has_time_to_drain() {
    let text = std::fs::read_to_string(packaged("Dockerfile")).expect("the file");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let stages = lines.iter().filter(|line| line.starts_with("FROM ")).count();
    assert_eq!(stages, 2, "built in one, run in another");
    let at =
        |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}"));
    assert!(at("USER 10001") < at("ENTRYPOINT"), "not as root");
    assert!(at("HEALTHCHECK") > 0 && text.contains("\"health\", \"--alive\"") && text.contains("--stop-timeout"));
    for copied in lines.iter().filter_map(|line| line.strip_prefix("COPY --chmod=644 ")) {
        let file = copied.split(' ').next().unwrap_or_default();
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file(), "{file} is in the repository");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_estafette"));
    command.args(["config", "check"]).arg(packaged("container.toml"));
    let said = run(&mut command, "a build");
    assert!(said.contains("is valid"), "{said}");
}
