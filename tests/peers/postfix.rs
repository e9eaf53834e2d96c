//! A whole Postfix in its own directory: STARTTLS, AUTH by Cyrus SASL, delivery to a maildir that the test reads back.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use estafette::channels::contract::{Compose, Ending, Script};
use estafette::channels::{LaneEvent, Outcome, RejectClass};
use estafette::config::connectors::{Secret, SmtpSettings, TlsMode};

use crate::support::{
    accepted, await_port, await_some, compose, free_port, open, open_directory, relay, run, send, send_composed,
    tickets_in,
};

const INSTALL: &str = "apt-get install postfix sasl2-bin libsasl2-modules openssl";

pub struct Postfix {
    pub dir: tempfile::TempDir,
    pub port: u16,
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let stopped = Command::new("postfix").arg("-c").arg(self.dir.path().join("conf")).arg("stop").output();
        if let Err(error) = stopped {
            eprintln!("postfix did not stop: {error}");
        }
    }
}

impl Postfix {
    fn start() -> Postfix {
        Postfix::start_with("")
    }

    /// Starts it with lines of main.cf in place of those of the same name.
    pub fn start_with(more: &str) -> Postfix {
        let (dir, port) = (open_directory(), free_port());
        let root = dir.path();
        for name in ["conf", "conf/sasl", "queue", "data", "mail"] {
            std::fs::create_dir(root.join(name)).expect("a directory");
        }
        open(&root.join("mail"));
        certificate(root);
        run(Command::new("chown").arg("postfix").arg(root.join("data")), INSTALL);
        user(root, "estafette", "secret");
        std::fs::write(root.join("conf/main.cf"), replaced(&main_cf(root), more)).expect("written");
        std::fs::write(root.join("conf/master.cf"), master_cf(port)).expect("written");
        std::fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permissions");
        let postfix = Postfix { dir, port };
        run(Command::new("postfix").arg("-c").arg(postfix.dir.path().join("conf")).arg("start"), INSTALL);
        await_port(port, "postfix");
        postfix
    }

    /// Adds a service, as a person does who edits `master.cf`.
    pub fn add_service(&self, lines: &str) {
        let conf = self.dir.path().join("conf");
        let master = conf.join("master.cf");
        let text = std::fs::read_to_string(&master).expect("read");
        std::fs::write(&master, format!("{text}{lines}\n")).expect("written");
        run(Command::new("postfix").arg("-c").arg(conf).arg("reload"), INSTALL);
    }

    fn settings(&self) -> SmtpSettings {
        SmtpSettings {
            tls: TlsMode::Starttls,
            ca_file: Some(self.dir.path().join("cert.pem")),
            username: Some("estafette@example.test".into()),
            password: Some(Secret::new("secret")),
            ..relay(self.port)
        }
    }

    /// Waits until so many mails are in the mailbox.
    pub fn mailbox(&self, mails: usize) -> PathBuf {
        let new = self.dir.path().join("mail/inbox/new");
        await_some("the delivered mail", || {
            let count = std::fs::read_dir(&new).map(Iterator::count).unwrap_or(0);
            (count >= mails).then_some(())
        });
        new
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

fn certificate(root: &Path) {
    run(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(root.join("key.pem"))
            .arg("-out")
            .arg(root.join("cert.pem")),
        INSTALL,
    );
}

fn user(root: &Path, name: &str, password: &str) {
    let database = root.join("conf/sasl/sasldb2");
    let script = format!(
        "printf %s '{password}' | saslpasswd2 -p -c -f '{}' -u example.test {name} && chown postfix '{0}'",
        database.display()
    );
    run(Command::new("sh").arg("-c").arg(script), INSTALL);
    let config = format!(
        "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\nmech_list: PLAIN LOGIN\n",
        database.display()
    );
    std::fs::write(root.join("conf/sasl/smtpd.conf"), config).expect("written");
}

fn main_cf(root: &Path) -> String {
    let at = |name: &str| root.join(name).display().to_string();
    let mut text = String::new();
    for (key, value) in [
        ("compatibility_level", "3.6".to_owned()),
        ("queue_directory", at("queue")),
        ("data_directory", at("data")),
        ("maillog_file", at("log")),
        ("maillog_file_prefixes", root.display().to_string()),
        ("myhostname", "relay.example.test".to_owned()),
        ("mydestination", String::new()),
        ("mynetworks", String::new()),
        ("inet_interfaces", "127.0.0.1".to_owned()),
        ("inet_protocols", "ipv4".to_owned()),
        ("smtpd_tls_security_level", "encrypt".to_owned()),
        ("smtpd_tls_cert_file", at("cert.pem")),
        ("smtpd_tls_key_file", at("key.pem")),
        ("smtpd_sasl_auth_enable", "yes".to_owned()),
        ("smtpd_sasl_type", "cyrus".to_owned()),
        ("smtpd_sasl_path", "smtpd".to_owned()),
        // Debian's Postfix looks there whatever is said here; others look where they are told.
        ("cyrus_sasl_config_path", at("conf/sasl")),
        ("smtpd_relay_restrictions", "permit_sasl_authenticated, reject".to_owned()),
        (
            "smtpd_recipient_restrictions",
            "check_recipient_access inline:{ { missing@example.test = 550 5.1.1 no such user } }, \
             permit_sasl_authenticated, reject"
                .to_owned(),
        ),
        ("virtual_mailbox_domains", "example.test".to_owned()),
        ("virtual_mailbox_base", at("mail")),
        ("virtual_mailbox_maps", "static:inbox/".to_owned()),
        ("virtual_uid_maps", "static:65534".to_owned()),
        ("virtual_gid_maps", "static:65534".to_owned()),
        ("smtpd_client_connection_rate_limit", "0".to_owned()),
    ] {
        writeln!(text, "{key} = {value}").expect("memory");
    }
    text
}

/// `text` with the parameters that `more` sets as that does. None may stand twice: each daemon would warn of it at its start,
/// the one that writes the log, too, and that waits for itself then.
fn replaced(text: &str, more: &str) -> String {
    let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let set: Vec<String> = more.lines().map(name).collect();
    let kept: String = text.lines().filter(|line| !set.contains(&name(line))).map(|line| format!("{line}\n")).collect();
    kept + more
}

fn master_cf(port: u16) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd\n\
         cleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         virtual unix - n n - - virtual\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         anvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\n\
         proxymap unix - - n - - proxymap\n\
         postlog unix-dgram n - n - 1 postlogd\n"
    )
}

#[test]
fn mail_is_accepted_over_starttls_with_auth_and_delivered() {
    let postfix = Postfix::start();
    let report = send(postfix.settings(), 60, Script::default());
    assert_eq!(accepted(&report), 60, "{:?}\n{}", report.events, postfix.log());
    assert!(report.attached > 30, "pipelined: {}", report.attached);
    assert_eq!(tickets_in(&postfix.mailbox(60)), (1..=60).collect(), "each once, as it was sent");

    // The same by BDAT, which Postfix offers too.
    let shifted: Compose = Box::new(|ticket, message| compose()(ticket + 100, message));
    let chunked = SmtpSettings { chunking: true, ..postfix.settings() };
    let report = send_composed(chunked, 40, Script::default(), shifted);
    assert_eq!(accepted(&report), 40, "{:?}\n{}", report.events, postfix.log());
    let wanted = (1..=60).chain(101..=140).collect();
    assert_eq!(tickets_in(&postfix.mailbox(100)), wanted, "each once, as it was sent");
}

#[test]
fn an_unknown_recipient_in_between_is_a_hard_bounce_and_harms_nobody() {
    let postfix = Postfix::start();
    for chunking in [false, true] {
        let some_missing: Compose = Box::new(|ticket, message| {
            compose()(ticket, message);
            if ticket % 4 == 0 {
                message.recipient.replace_range(.., "missing@example.test");
            }
        });
        let settings = SmtpSettings { chunking, ..postfix.settings() };
        let record = send_composed(settings, 20, Script::default(), some_missing);
        let bounced =
            record.count(|e| matches!(e, Ending::Answered(Outcome::Rejected { class: RejectClass::HardBounce, .. })));
        assert_eq!((accepted(&record), bounced), (15, 5), "chunking {chunking}: {:?}", record.endings);
    }
}

#[test]
fn a_wrong_password_or_certificate_sends_nothing() {
    let postfix = Postfix::start();
    let wrong = SmtpSettings { password: Some(Secret::new("wrong")), ..postfix.settings() };
    let record = send(wrong, 2, Script::default());
    assert_eq!(record.count(|e| matches!(e, Ending::Back(_))), 2, "nothing was tried: {:?}", record.endings);
    assert!(record.events.iter().any(|e| matches!(e, LaneEvent::SenderRefused { .. })), "{:?}", record.events);
    let untrusted = SmtpSettings { ca_file: None, ..postfix.settings() };
    let record = send(untrusted, 2, Script::default());
    assert_eq!(record.count(|e| matches!(e, Ending::Back(_))), 2, "nothing leaves: {:?}", record.endings);
}
