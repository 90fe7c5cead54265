//! The table of metrics in `deploy/README.md` is what a scrape gets: every family, its type, its labels, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cancel_worker::telemetry::{Exposition, Telemetry, expose};

use crate::markdown::{read, table};

/// What a scrape says of one family.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Family {
    kind: String,
    pub labels: BTreeSet<String>,
    series: usize,
}

#[test]
fn the_table_of_metrics_is_what_a_scrape_gets() {
    let scraped = families(&expose(&Arc::new(Telemetry::default()), Exposition::Text));
    let mut said = BTreeMap::new();
    for row in table(&read("deploy/README.md"), "| metric |") {
        let name = row[0].trim_matches('`').to_owned();
        let labels = row[2].split(", ").filter(|label| *label != "–").map(|label| label.trim_matches('`').to_owned());
        let series = row[3].parse().unwrap();
        let family = Family { kind: row[1].clone(), labels: labels.collect(), series };
        assert!(said.insert(name.clone(), family).is_none(), "{name} twice");
    }
    assert_eq!(said, scraped, "on the left what deploy/README.md says, on the right what a scrape gets");
    let sum: usize = scraped.values().map(|family| family.series).sum();
    assert!(read("deploy/README.md").contains(&format!("{sum} series")), "{sum} series in all");
}

#[test]
fn each_histogram_ends_with_a_bucket_without_a_bound_in_both_formats() {
    for exposition in [Exposition::Text, Exposition::OpenMetrics] {
        let text = expose(&Arc::new(Telemetry::default()), exposition);
        let buckets = |bound: &str| text.matches(&format!("le=\"{bound}\"")).count();
        assert_eq!(
            (buckets("+Inf"), text.contains("e308"), text.contains("e+308")),
            (8, false, false),
            "{exposition:?}"
        );
        assert_eq!(text.ends_with("# EOF\n"), exposition == Exposition::OpenMetrics);
    }
}

/// By the name of the series: a histogram's buckets, sum and count are of one family, and count as many series.
pub fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let family = families
                .get_mut(family.filter(|family| text.contains(&format!("# TYPE {family} histogram"))).unwrap_or(name))
                .unwrap();
            family.series += 1;
            for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
                let (label, _) = label.split_once('=').unwrap();
                if label != "le" {
                    family.labels.insert(label.to_owned());
                }
            }
        }
    }
    families
}
