use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};
use secrecy::zeroize::Zeroizing;

use crate::settings;

/// A file with certificates or a key that cannot be used. Never holds any of the file's text.
#[derive(Debug, thiserror::Error)]
#[error("use the file {} of {setting}: {problem}", path.display())]
pub struct TlsError {
    setting: &'static str,
    path: PathBuf,
    problem: String,
}

/// What settings add to TLS, read from its files. Servers are always verified.
#[derive(Clone)]
pub(super) struct TlsFiles {
    /// Trusted beside the system's.
    authorities: Vec<Certificate>,
    /// Shown to servers that ask for one.
    identity: Option<Identity>,
}

const CA_FILE: &str = "api.ca_file";
const CERTIFICATE_FILE: &str = "api.client_certificate_file";
const KEY_FILE: &str = "api.client_key_file";

impl TlsFiles {
    pub(super) fn read(api: &settings::Api) -> Result<Self, TlsError> {
        let authorities = api.ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default();
        let identity = match (&api.client_certificate_file, &api.client_key_file) {
            (Some(certificate), Some(key)) => Some(identity(certificate, key)?),
            _ => None,
        };
        Ok(Self { authorities, identity })
    }

    pub(super) fn apply(self, builder: ClientBuilder) -> ClientBuilder {
        let builder = builder.tls_certs_merge(self.authorities);
        match self.identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        }
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, TlsError> {
    let wrong = |problem: &str| TlsError { setting: CA_FILE, path: path.to_owned(), problem: problem.to_owned() };
    let pem = read(CA_FILE, path)?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(wrong("it must hold one CA certificate or more, in PEM (-----BEGIN CERTIFICATE-----)")),
    }
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, TlsError> {
    let mut pem = read(CERTIFICATE_FILE, certificate)?;
    let wrong =
        |setting, path: &Path, problem: &str| TlsError { setting, path: path.to_owned(), problem: problem.to_owned() };
    if !Certificate::from_pem_bundle(&pem).is_ok_and(|found| !found.is_empty()) {
        let problem = "it must hold the client's certificate and its chain, in PEM (-----BEGIN CERTIFICATE-----)";
        return Err(wrong(CERTIFICATE_FILE, certificate, problem));
    }
    pem.push(b'\n');
    pem.extend_from_slice(&read(KEY_FILE, key)?);
    Identity::from_pem(&pem).map_err(|_| {
        let problem = "it must hold the private key of api.client_certificate_file, in PEM and not encrypted (-----BEGIN PRIVATE KEY-----)";
        wrong(KEY_FILE, key, problem)
    })
}

fn read(setting: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |error: std::io::Error| TlsError {
        setting,
        path: path.to_owned(),
        problem: format!("{error}; make the file readable for this user, or correct the setting"),
    };
    std::fs::read(path).map(Zeroizing::new).map_err(unreadable)
}
