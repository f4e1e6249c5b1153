//! Where a service shows its inspection page.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use thiserror::Error;

/// Where a service shows its inspection page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    /// Without a slash behind.
    path: String,
}

/// An address that cannot be used.
#[derive(Debug, PartialEq, Error)]
pub enum BadAddress {
    #[error("an address is written as http://HOST:PORT/PATH")]
    Malformed,
    #[error("only http is spoken here; reach what speaks https through a tunnel")]
    Scheme,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let uri: Uri = text.parse().map_err(|_| BadAddress::Malformed)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(_) => return Err(BadAddress::Scheme),
            None => return Err(BadAddress::Malformed),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(BadAddress::Malformed)?;
        let behind = uri.authority().and_then(|authority| authority.as_str().strip_prefix(host));
        let port = match behind.ok_or(BadAddress::Malformed)? {
            "" => 80,
            port => port[1..].parse().map_err(|_| BadAddress::Malformed)?,
        };
        Ok(Address { host: host.to_owned(), port, path: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl Address {
    /// The path of the JSON, with so many of each at most.
    pub fn json(&self, limit: usize) -> String {
        format!("{}/json?limit={limit}", self.path)
    }

    /// The host to connect to: that of an IPv6 address is written in brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_where_the_page_is_with_or_without_a_slash_behind() {
        for text in ["http://127.0.0.1:9500/bursar", "http://127.0.0.1:9500/bursar/"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.json(9), "/bursar/json?limit=9");
            assert_eq!(address.to_string(), "http://127.0.0.1:9500/bursar");
        }
        let root: Address = "http://[::1]".parse().unwrap();
        assert_eq!((root.host(), root.port, root.json(1).as_str()), ("::1", 80, "/json?limit=1"));
        assert_eq!("https://host/bursar".parse::<Address>(), Err(BadAddress::Scheme));
        for bad in ["", "127.0.0.1:9500", "/bursar", "http:///bursar", "http://host:port/", "http://me@host/"] {
            assert_eq!(bad.parse::<Address>(), Err(BadAddress::Malformed), "{bad}");
        }
    }
}
