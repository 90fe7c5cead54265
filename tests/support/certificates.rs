use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate authority of this test, made with the openssl command, and what it has signed. Removed when dropped.
pub struct Certificates {
    folder: tempfile::TempDir,
}

/// A certificate and its private key, both PEM files.
pub struct Signed {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    pub fn new() -> Self {
        let certificates = Self { folder: tempfile::tempdir().unwrap() };
        let [key, ca] = ["ca.key", "ca.pem"].map(|name| certificates.path(name));
        openssl(&["req", "-x509", "-days", "2", "-subj", "/CN=An authority of a test", "-out", &ca, "-keyout", &key]);
        certificates
    }

    /// The authority's own certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For a server or a client; `names` such as `DNS:localhost,IP:127.0.0.1`.
    pub fn sign(&self, who: &str, names: &str) -> Signed {
        let path = |end: &str| self.path(&format!("{who}.{end}"));
        let (certificate, key) = (path("pem"), path("key"));
        let (ca, ca_key) = (self.path("ca.pem"), self.path("ca.key"));
        let names = format!("subjectAltName={names}");
        openssl(&[
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            &format!("/CN={who}"),
            "-addext",
            &names,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-out",
            &certificate,
            "-keyout",
            &key,
        ]);
        Signed { certificate: certificate.into(), key: key.into() }
    }

    fn path(&self, name: &str) -> String {
        Path::new(self.folder.path()).join(name).to_str().unwrap().to_owned()
    }
}

fn openssl(arguments: &[&str]) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"];
    let output = Command::new("openssl").args(arguments).args(key).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
