//! What a request says about who sent it: address behind trusted proxies, language, prefetch. Pure.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use smallvec::SmallVec;

use crate::config::Networks;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What browsers and proxies say when they fetch ahead.
static PURPOSES: [HeaderName; 4] = [
    HeaderName::from_static("purpose"),
    HeaderName::from_static("sec-purpose"),
    HeaderName::from_static("x-purpose"),
    HeaderName::from_static("x-moz"),
];

/// The client's address: the peer's, or, if the peer is a trusted proxy, the last entry of `X-Forwarded-For` that is not
/// one. What stands left of an untrusted entry anyone can write.
pub(super) fn address(request: &HttpRequest, proxies: &Networks) -> IpAddr {
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip().to_canonical());
    if !proxies.contains(peer) {
        return peer;
    }
    let forwarded = request.headers().get_all(&FORWARDED_FOR).filter_map(|v| v.to_str().ok());
    let hops: SmallVec<[&str; 8]> = forwarded.flat_map(|v| v.split(',')).map(str::trim).collect();
    behind(peer, &hops, proxies)
}

fn behind(peer: IpAddr, hops: &[&str], proxies: &Networks) -> IpAddr {
    let mut current = peer;
    for hop in hops.iter().rev() {
        if !proxies.contains(current) {
            break;
        }
        match hop.parse::<IpAddr>() {
            Ok(next) => current = next.to_canonical(),
            Err(_) => break,
        }
    }
    current
}

/// The browser or proxy says itself that nobody looked at this.
pub(super) fn is_prefetch(headers: &HeaderMap) -> bool {
    PURPOSES
        .iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .any(|value| value.contains("prefetch") || value.contains("preview"))
}

/// The first language of `Accept-Language`, two letters.
pub(super) fn language(headers: &HeaderMap) -> &str {
    let value = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.get(..2).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let mut proxies = Networks::none();
        proxies.add("10.0.0.0/8").unwrap();
        let check = |peer: &str, hops: &[&str], expected: &str| {
            let found = behind(peer.parse().unwrap(), hops, &proxies);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {hops:?}");
        };
        check("203.0.113.1", &["198.51.100.7"], "203.0.113.1");
        check("10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["1.2.3.4", "198.51.100.7", "10.0.0.2"], "198.51.100.7");
        check("10.0.0.1", &["nonsense"], "10.0.0.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("::ffff:10.0.0.1", &["2001:db8::1"], "2001:db8::1");
    }
}
