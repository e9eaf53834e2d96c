//! What DKIM and TLS add to a mail of the reference message's size, each beside the primitive under it: the bare signature, and
//! the bare cipher over the same bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench may stop at a fault, and prints its table"
)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use estafette::channels::smtp::dkim::Signer;
use estafette::config::connectors::DkimSettings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// Bytes of the reference message, rendered.
const MESSAGE_BYTES: usize = 10_158;

/// A mail of that size with the headers that the engine writes.
fn message() -> Vec<u8> {
    let mut mail =
        b"From: The Workshop <news@example.test>\r\nTo: ada@example.test\r\nSubject: Ada, your spring letter\r\n\
        Date: Sun, 22 Nov 2026 01:23:17 +0000\r\nMessage-ID: <abcdefghijklmnopqrstuvwxyz@example.test>\r\n\
        List-Unsubscribe: <https://mail.example.test/u/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA>\r\n\
        List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nMIME-Version: 1.0\r\n\
        Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
            .to_vec();
    while mail.len() < MESSAGE_BYTES {
        mail.extend_from_slice(b"The new collection was made with people who asked for fewer, better things=\r\n");
    }
    mail
}

/// Time that this thread ran, so that other work on the machine does not count; wall time where the kernel does not say.
/// Yielding makes the kernel bring its count up to date.
fn cpu_time(started: Instant) -> Duration {
    std::thread::yield_now();
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = schedstat.and_then(|s| s.split_whitespace().next().and_then(|n| n.parse().ok()));
    nanos.map_or_else(|| started.elapsed(), Duration::from_nanos)
}

fn measure<R>(b: &mut Bencher<'_>, mut step: impl FnMut() -> R) {
    let started = Instant::now();
    b.iter_custom(|iterations| {
        let before = cpu_time(started);
        for _ in 0..iterations {
            black_box(step());
        }
        cpu_time(started) - before
    });
}

fn rsa_key() -> Vec<u8> {
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("encodes");
    der.as_ref().to_vec()
}

fn ed25519_key() -> Vec<u8> {
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key").as_ref().to_vec()
}

/// A signer with these keys, all of the sender's domain.
fn signer(folder: &std::path::Path, keys: &[&[u8]]) -> Signer {
    let one = |(number, key): (usize, &&[u8])| {
        let key_file = folder.join(format!("{}-{number}.pem", keys.len()));
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(key));
        std::fs::write(&key_file, pem).expect("written");
        DkimSettings { domain: "example.test".to_owned(), selector: format!("s{number}"), key_file }
    };
    let settings: Vec<DkimSettings> = keys.iter().enumerate().map(one).collect();
    Signer::load(&settings).expect("keys load").expect("there are keys")
}

fn dkim(c: &mut Criterion) {
    let mail = message();
    let folder = tempfile::tempdir().expect("a folder");
    let (rsa, ed) = (rsa_key(), ed25519_key());
    let mut group = c.benchmark_group("dkim");
    let kinds: [(&str, &[&[u8]]); 3] = [("rsa_2048", &[&rsa]), ("ed25519", &[&ed]), ("both", &[&rsa, &ed])];
    for (name, keys) in kinds {
        group.bench_function(name, |b| {
            let signer = signer(folder.path(), keys);
            let mut prefix = Vec::new();
            measure(b, || {
                prefix.clear();
                signer.sign(&mail, &mut prefix).expect("signs");
                prefix.len()
            });
        });
    }
    // Ed25519's PKCS#8 of DKIM is the same key; what it signs is a hash (RFC 8463 3).
    group.bench_function("primitive_rsa_2048", |b| {
        let (pair, random) = (RsaKeyPair::from_pkcs8(&rsa).expect("a key"), SystemRandom::new());
        let mut signature = vec![0; pair.public_modulus_len()];
        measure(b, || pair.sign(&RSA_PKCS1_SHA256, &random, b"a header block", &mut signature).expect("signs"));
    });
    group.bench_function("primitive_ed25519", |b| {
        let pair = Ed25519KeyPair::from_pkcs8(&ed).expect("a key");
        measure(b, || pair.sign(&[7; 32]));
    });
    group.bench_function("primitive_sha256_of_the_body", |b| measure(b, || digest(&SHA256, &mail)));
    group.finish();
}

/// A connection whose ends are both here, after its handshake.
fn connected() -> (ClientConnection, ServerConnection) {
    let pem = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate");
    let authority = pem(include_str!("../src/channels/contract/certificates/relay.pem"));
    let chain = vec![pem(include_str!("../src/channels/contract/certificates/relay.pem"))];
    let key = include_str!("../src/channels/contract/certificates/relay.key.pem");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit");
    let mut roots = RootCertStore::empty();
    roots.add(authority).expect("an authority");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
    let mut server = ServerConnection::new(Arc::new(server)).expect("a server");
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("writes");
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("reads");
            server.process_new_packets().expect("the server agrees");
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("writes");
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("reads");
            client.process_new_packets().expect("the client agrees");
        }
    }
    (client, server)
}

fn tls(c: &mut Criterion) {
    let mail = message();
    let mut group = c.benchmark_group("tls");
    group.bench_function("write_a_mail", |b| {
        let (mut client, _server) = connected();
        let mut wire = Vec::with_capacity(2 * MESSAGE_BYTES);
        measure(b, || {
            wire.clear();
            client.writer().write_all(&mail).expect("takes it");
            while client.wants_write() {
                client.write_tls(&mut wire).expect("writes");
            }
            wire.len()
        });
    });
    group.bench_function("write_and_read_a_mail", |b| {
        let (mut client, mut server) = connected();
        let (mut wire, mut read) = (Vec::with_capacity(2 * MESSAGE_BYTES), vec![0; 2 * MESSAGE_BYTES]);
        measure(b, || {
            wire.clear();
            client.writer().write_all(&mail).expect("takes it");
            while client.wants_write() {
                client.write_tls(&mut wire).expect("writes");
            }
            let (mut rest, mut got) = (wire.as_slice(), 0);
            while !rest.is_empty() {
                server.read_tls(&mut rest).expect("reads");
                server.process_new_packets().expect("deciphers");
                while let Ok(n @ 1..) = server.reader().read(&mut read) {
                    got += n;
                }
            }
            assert_eq!(got, mail.len(), "all of it");
        });
    });
    group.bench_function("primitive_aes_256_gcm", |b| {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[1; 32]).expect("a key"));
        let mut buffer = Vec::with_capacity(2 * MESSAGE_BYTES);
        measure(b, || {
            buffer.clear();
            buffer.extend_from_slice(&mail);
            let nonce = Nonce::assume_unique_for_key([3; 12]);
            key.seal_in_place_append_tag(nonce, Aad::empty(), &mut buffer).expect("seals");
        });
    });
    group.bench_function("handshake_both_sides", |b| measure(b, connected));
    group.finish();
}

criterion_group!(benches, dkim, tls);
criterion_main!(benches);
