use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::settings::Settings;

/// A file that a setting names.
pub(super) struct NamedFile<'s> {
    setting: &'static str,
    path: &'s Path,
    /// Whether it holds something that others must not know.
    secret: bool,
}

/// All of them.
pub(super) fn named_files(settings: &Settings) -> Vec<NamedFile<'_>> {
    let (api, credentials) = (&settings.api, &settings.api.credentials);
    let named = [
        ("amqp.uri_file", settings.amqp.uri_file.as_deref(), true),
        ("api.client_certificate_file", api.client_certificate_file.as_deref(), false),
        ("api.client_key_file", api.client_key_file.as_deref(), true),
        ("api.ca_file", api.ca_file.as_deref(), false),
        ("api.credentials.token_file", credentials.token_file.as_deref(), true),
        ("api.credentials.file", credentials.file.as_deref(), true),
    ];
    named.into_iter().filter_map(|(setting, path, secret)| Some(NamedFile { setting, path: path?, secret })).collect()
}

impl NamedFile<'_> {
    /// Why it cannot be read, as far as opening it tells. A pipe is left alone: it can be read only once.
    pub(super) fn problem(&self) -> Option<String> {
        let is_file = |path: &Path| fs::metadata(path).map(|metadata| metadata.is_file());
        let error = match is_file(self.path) {
            Ok(true) => File::open(self.path).err()?,
            Ok(false) => return None,
            Err(error) => error,
        };
        Some(format!("{} names {:?}, which cannot be read: {error}", self.setting, self.path))
    }

    /// That everybody on this machine may read a secret.
    pub(super) fn warning(&self) -> Option<String> {
        const OTHERS_READ: u32 = 0o004;
        let mode = fs::metadata(self.path).ok()?.permissions().mode();
        (self.secret && mode & OTHERS_READ != 0).then(|| {
            let path = self.path;
            format!(
                "{} names {path:?}, which every user of this machine may read: take that from them (chmod o-r)",
                self.setting
            )
        })
    }
}
