use std::path::PathBuf;

use clap::Args;

use crate::settings::{Loaded, SettingsError, load};

#[derive(Args, Clone, Debug, Default)]
pub(super) struct SettingsArguments {
    /// Settings file (TOML); several are read in order, later ones win
    #[arg(long = "config", value_name = "FILE", global = true)]
    files: Vec<PathBuf>,
}

impl SettingsArguments {
    pub(super) fn load(&self, overrides: &[(&str, String)]) -> Result<Loaded, SettingsError> {
        load(&self.files, overrides)
    }
}
