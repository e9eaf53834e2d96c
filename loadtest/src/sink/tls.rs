//! TLS of the sinks, with a certificate of the operator's or one that is made for the run.
//!
//! Owns the folder of a certificate that it made. Invariant: the private key of such a certificate lives as long as the sink
//! and no longer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, as files in PEM.
#[derive(Debug)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
    made: Option<TempDir>,
}

impl Identity {
    /// The files named, or a certificate of our own for `localhost` and 127.0.0.1.
    pub fn of(certificate: Option<&Path>, key: Option<&Path>) -> anyhow::Result<Identity> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Ok(Identity { certificate: certificate.to_owned(), key: key.to_owned(), made: None })
            }
            (None, None) => Identity::made(),
            _ => bail!("a certificate needs its key: name both files or none"),
        }
    }

    fn made() -> anyhow::Result<Identity> {
        let folder = TempDir::new().context("making a folder for the certificate")?;
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        // Not an authority: clients that trust it directly refuse authorities as a server's own certificate.
        let out = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "30", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stdin(Stdio::null())
            .output()
            .context("starting openssl for a certificate: install it, or name one with --tls-cert and --tls-key")?;
        if !out.status.success() {
            bail!("openssl made no certificate: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(Identity { certificate, key, made: Some(folder) })
    }

    /// Whether the certificate was made for this run.
    pub fn is_made(&self) -> bool {
        self.made.is_some()
    }

    /// Accepts TLS with this certificate, offering these application protocols.
    pub fn acceptor(&self, protocols: &[&[u8]]) -> anyhow::Result<TlsAcceptor> {
        crate::api::install_crypto();
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .with_context(|| format!("reading the certificate {}", self.certificate.display()))?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("reading the key {}", self.key.display()))?;
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("the certificate and its key")?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
