//! DKIM signatures (RFC 6376, RFC 8463): RSA-SHA256 and Ed25519-SHA256, both at once if both keys are configured.
//!
//! Owns the loaded keys. Invariants: DK-1 a key that cannot be used is found when the connector is made; DK-2 the headers
//! that a reader trusts are signed, and so are List-Unsubscribe and List-Unsubscribe-Post (RFC 8058 4); DK-3 the message
//! itself is not touched: signatures are a prefix.
//!
//! Must not know sessions or feeds.

use std::path::PathBuf;

use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{DkimSigner, Done};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::config::connectors::DkimSettings;

/// Signed where present. RFC 6376 5.4.1, and what bulk mail carries.
const HEADERS: &[&str] = &[
    "From",
    "Reply-To",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Feedback-ID",
    "Auto-Submitted",
    "Precedence",
];

#[derive(Debug, thiserror::Error)]
pub enum DkimError {
    #[error("DKIM key {path:?}: {source}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("DKIM key {path:?} is neither an RSA nor an Ed25519 private key in PEM: {reason}")]
    Key { path: PathBuf, reason: String },
}

/// Signs what one connector sends.
pub struct Signer {
    keys: Vec<(String, DkimSigner<DkimKey, Done>)>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(domain, _)| domain)).finish()
    }
}

impl Signer {
    /// `None` if no key is configured.
    pub fn load(settings: &[DkimSettings]) -> Result<Option<Signer>, DkimError> {
        let mut keys = Vec::with_capacity(settings.len());
        for entry in settings {
            let path = || entry.key_file.clone();
            let pem = std::fs::read(&entry.key_file).map_err(|source| DkimError::Read { path: path(), source })?;
            let der = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|e| DkimError::Key { path: path(), reason: e.to_string() })?;
            let key = load_key(der).map_err(|reason| DkimError::Key { path: path(), reason })?;
            let signer = DkimSigner::from_key(key)
                .domain(entry.domain.clone())
                .selector(entry.selector.clone())
                .headers(HEADERS.iter().copied());
            keys.push((entry.domain.to_ascii_lowercase(), signer));
        }
        Ok(if keys.is_empty() { None } else { Some(Signer { keys }) })
    }

    /// Writes the signature headers of `message` (CRLF line ends) into `prefix`, one for each key of the From domain (or
    /// of a parent of it), or for every key if none is of that domain.
    pub fn sign(&self, message: &[u8], prefix: &mut Vec<u8>) -> Result<(), mail_auth::Error> {
        let domain = from_domain(message).unwrap_or_default();
        let own = |key: &str| domain == key || domain.strip_suffix(key).is_some_and(|rest| rest.ends_with('.'));
        let aligned = self.keys.iter().any(|(key, _)| own(key));
        for (key, signer) in &self.keys {
            if !aligned || own(key) {
                signer.sign(message)?.write_header(prefix);
            }
        }
        Ok(())
    }
}

fn load_key(der: PrivateKeyDer<'_>) -> Result<DkimKey, String> {
    if let PrivateKeyDer::Pkcs8(pkcs8) = &der
        && let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(pkcs8.secret_pkcs8_der())
    {
        return Ok(DkimKey::Ed25519(key));
    }
    RsaKey::<Sha256>::from_key_der(der).map(DkimKey::Rsa).map_err(|e| e.to_string())
}

/// Domain of the From header, lower case.
fn from_domain(message: &[u8]) -> Option<String> {
    let head = &message[..memchr::memmem::find(message, b"\r\n\r\n").unwrap_or(message.len())];
    let at = if head.get(..5).is_some_and(|h| h.eq_ignore_ascii_case(b"from:")) {
        5
    } else {
        let lower = head.to_ascii_lowercase();
        memchr::memmem::find(&lower, b"\r\nfrom:")? + 7
    };
    let mut end = at;
    // A folded header goes on while lines begin with a blank.
    while let Some(next) = memchr::memmem::find(&head[end..], b"\r\n") {
        end += next;
        if !matches!(head.get(end + 2), Some(b' ' | b'\t')) {
            break;
        }
        end += 2;
    }
    let value = &head[at..if end == at { head.len() } else { end.max(at) }];
    let domain = &value[memchr::memrchr(b'@', value)? + 1..];
    let stop =
        domain.iter().position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))).unwrap_or(domain.len());
    std::str::from_utf8(&domain[..stop]).ok().map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"From: \"A\" <a@News.Example.test>\r\nTo: b@x.test\r\nSubject: s\r\nList-Unsubscribe: <https://u>\r\n\r\nhello\r\n";

    fn signer(domains: &[&str]) -> (Signer, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let settings: Vec<DkimSettings> = domains
            .iter()
            .enumerate()
            .map(|(i, domain)| {
                let key_file = dir.path().join(format!("{i}.pem"));
                let der = Ed25519Key::generate_pkcs8().expect("a key");
                let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
                std::fs::write(&key_file, format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
                    .expect("written");
                DkimSettings { domain: (*domain).to_owned(), selector: format!("s{i}"), key_file }
            })
            .collect();
        (Signer::load(&settings).expect("keys load").expect("there are keys"), dir)
    }

    #[test]
    fn the_signature_covers_what_bulk_mail_must_cover() {
        let (signer, _dir) = signer(&["example.test"]);
        let mut prefix = Vec::new();
        signer.sign(MAIL, &mut prefix).expect("signed");
        let text = String::from_utf8(prefix).expect("ASCII").to_ascii_lowercase();
        assert!(text.starts_with("dkim-signature:") && text.ends_with("\r\n"), "a header line: {text}");
        assert!(text.contains("d=example.test") && text.contains("s=s0") && text.contains("ed25519-sha256"), "{text}");
        for header in ["from", "subject", "list-unsubscribe"] {
            assert!(text.contains(header), "{header} is signed: {text}");
        }
    }

    #[test]
    fn keys_of_the_from_domain_sign_and_others_do_not() {
        let (signer, _dir) = signer(&["example.test", "other.test", "news.example.test"]);
        let mut prefix = Vec::new();
        signer.sign(MAIL, &mut prefix).expect("signed");
        let text = String::from_utf8(prefix).expect("ASCII");
        assert!(text.contains("s=s0") && text.contains("s=s2") && !text.contains("s=s1"), "aligned keys only: {text}");
        let mut prefix = Vec::new();
        signer.sign(&MAIL.to_ascii_lowercase().replace_all("example", "elsewhere"), &mut prefix).expect("signed");
        let text = String::from_utf8(prefix).expect("ASCII");
        assert!((0..3).all(|i| text.contains(&format!("s=s{i}"))), "no key of that domain, so all sign: {text}");
    }

    trait ReplaceAll {
        fn replace_all(&self, from: &str, to: &str) -> Vec<u8>;
    }

    impl ReplaceAll for Vec<u8> {
        fn replace_all(&self, from: &str, to: &str) -> Vec<u8> {
            String::from_utf8_lossy(self).replace(from, to).into_bytes()
        }
    }

    #[test]
    fn the_from_domain_is_found_wherever_it_stands() {
        for (head, domain) in [
            ("From: a@x.test\r\n\r\n", Some("x.test")),
            ("To: q@z.test\r\nfrom: \"a@b\"\r\n <a@Y.test>\r\nCc: c@d.test\r\n\r\n", Some("y.test")),
            ("To: a@x.test\r\n\r\nFrom: b@y.test\r\n", None),
        ] {
            assert_eq!(from_domain(head.as_bytes()).as_deref(), domain, "{head:?}");
        }
    }

    #[test]
    fn a_bad_key_is_found_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let key_file = dir.path().join("key.pem");
        let entry = || DkimSettings { domain: "x.test".into(), selector: "s".into(), key_file: key_file.clone() };
        assert!(matches!(Signer::load(&[entry()]), Err(DkimError::Read { .. })), "no such file");
        std::fs::write(&key_file, "not a key").expect("written");
        assert!(matches!(Signer::load(&[entry()]), Err(DkimError::Key { .. })), "not a key");
        assert!(Signer::load(&[]).expect("no keys").is_none(), "nothing configured");
    }
}
