//! What a path of the public listener asks for. Pure.
//!
//! Five shapes of paths need no router: the listener's is a regular expression for each shape, tried in order, and a search
//! through the same shapes once more for the name of the route in the figures. Here a path is cut at its slashes.
//! Invariant: AS-1 each part is one segment that is not empty, percent-decoded after the path was cut.

use std::borrow::Cow;

use actix_web::http::Method;
use percent_encoding::percent_decode_str;

/// A resource, as the figures name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Click,
    ClickWithUrl,
    Open,
    Unsubscribe,
    View,
    Nothing,
}

impl Endpoint {
    pub(super) const ALL: [Endpoint; 6] = [
        Endpoint::Click,
        Endpoint::ClickWithUrl,
        Endpoint::Open,
        Endpoint::Unsubscribe,
        Endpoint::View,
        Endpoint::Nothing,
    ];

    /// The label `route` of the figures.
    pub(super) fn route(self) -> &'static str {
        match self {
            Endpoint::Click => "/c/{token}/{link}",
            Endpoint::ClickWithUrl => "/r/{token}/{link}/{url}",
            Endpoint::Open => "/o/{token}",
            Endpoint::Unsubscribe => "/u/{token}",
            Endpoint::View => "/v/{token}",
            Endpoint::Nothing => "none",
        }
    }

    /// Methods that it takes, as `Allow` lists them. What is not there takes any, to be the same page.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Endpoint::Click | Endpoint::ClickWithUrl | Endpoint::Open => "GET, HEAD",
            Endpoint::Unsubscribe => "GET, POST",
            Endpoint::View => "GET",
            Endpoint::Nothing => "",
        }
    }

    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Endpoint::Click | Endpoint::ClickWithUrl | Endpoint::Open => matches!(*method, Method::GET | Method::HEAD),
            Endpoint::Unsubscribe => matches!(*method, Method::GET | Method::POST),
            Endpoint::View => *method == Method::GET,
            Endpoint::Nothing => true,
        }
    }
}

/// A path in its parts; those that its endpoint does not have are empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) token: Cow<'a, str>,
    pub(super) link: Cow<'a, str>,
    pub(super) url: Cow<'a, str>,
}

fn decoded(part: &str) -> Cow<'_, str> {
    if part.contains('%') { percent_decode_str(part).decode_utf8_lossy() } else { Cow::Borrowed(part) }
}

impl<'a> Asked<'a> {
    pub(super) fn of(path: &'a str) -> Asked<'a> {
        let mut parts = path.strip_prefix('/').unwrap_or_default().split('/');
        let (name, token) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (link, url, more) = (parts.next(), parts.next(), parts.next());
        let endpoint = match (name, link, url, more) {
            ("c", Some(_), None, None) => Endpoint::Click,
            ("r", Some(_), Some(_), None) => Endpoint::ClickWithUrl,
            ("o", None, None, None) => Endpoint::Open,
            ("u", None, None, None) => Endpoint::Unsubscribe,
            ("v", None, None, None) => Endpoint::View,
            _ => Endpoint::Nothing,
        };
        let is_empty = token.is_empty() || link == Some("") || url == Some("");
        if endpoint == Endpoint::Nothing || is_empty {
            let none = Cow::Borrowed("");
            return Asked { endpoint: Endpoint::Nothing, token: none.clone(), link: none.clone(), url: none };
        }
        let part = |part: Option<&'a str>| part.map_or(Cow::Borrowed(""), decoded);
        Asked { endpoint, token: decoded(token), link: part(link), url: part(url) }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::dev::ResourceDef;

    use super::*;

    #[test]
    fn paths_are_what_a_router_makes_of_the_same_patterns() {
        let patterns: Vec<(Endpoint, ResourceDef)> = Endpoint::ALL
            .into_iter()
            .filter(|e| *e != Endpoint::Nothing)
            .map(|endpoint| (endpoint, ResourceDef::new(endpoint.route())))
            .collect();
        let names = ["", "c", "r", "o", "u", "v", "x", "cc", "C"];
        let parts = ["", "t", "1", "a%2Fb", "é", "a b", "..", "{token}", "?"];
        let mut seen = 0;
        let mut check = |path: &str| {
            let expected = patterns.iter().find(|(_, pattern)| pattern.is_match(path)).map(|(endpoint, _)| *endpoint);
            let found = Asked::of(path).endpoint;
            assert_eq!(found, expected.unwrap_or(Endpoint::Nothing), "{path:?}");
            seen += usize::from(expected.is_some());
        };
        for name in names {
            check(&format!("/{name}"));
            check(&format!("//{name}"));
            check(name);
            for one in parts {
                check(&format!("/{name}/{one}"));
                for two in parts {
                    check(&format!("/{name}/{one}/{two}"));
                    for three in parts {
                        check(&format!("/{name}/{one}/{two}/{three}"));
                        check(&format!("/{name}/{one}/{two}/{three}/"));
                    }
                }
            }
        }
        assert!(seen > 100, "many of them are endpoints: {seen}");
    }

    #[test]
    fn parts_are_decoded_after_the_cut() {
        let asked = Asked::of("/r/a%2Fb/%31/%C3%A9%zz");
        assert_eq!((&*asked.token, &*asked.link, &*asked.url), ("a/b", "1", "é%zz"));
        assert_eq!(Asked::of("/c/tok-en_/3").token, Cow::Borrowed("tok-en_"));
    }

    #[test]
    fn each_endpoint_takes_its_methods() {
        for (endpoint, taken) in [
            (Endpoint::Click, &[Method::GET, Method::HEAD][..]),
            (Endpoint::ClickWithUrl, &[Method::GET, Method::HEAD]),
            (Endpoint::Open, &[Method::GET, Method::HEAD]),
            (Endpoint::Unsubscribe, &[Method::GET, Method::POST]),
            (Endpoint::View, &[Method::GET]),
        ] {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
                assert_eq!(endpoint.takes(&method), taken.contains(&method), "{method} of {endpoint:?}");
            }
            let listed: Vec<&str> = taken.iter().map(Method::as_str).collect();
            assert_eq!(endpoint.methods(), listed.join(", "), "{endpoint:?} says so");
        }
        assert!(Endpoint::Nothing.takes(&Method::DELETE), "what is not there is not there for all");
    }
}
