//! Alerts and dashboard ask for metrics that exist, and each alert says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use cancel_worker::telemetry::{Exposition, Telemetry, expose};
use promql_parser::parser::{Expr, VectorSelector, parse};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

use crate::markdown::{anchors, read};
use crate::metrics::families;

const RULES: &str = "deploy/prometheus/rules.yml";

/// A rule as it stands in the file, which is as regular as its tests: no library for YAML is needed for it.
#[derive(Debug, Default)]
struct Rule {
    name: String,
    is_alert: bool,
    expr: String,
    fields: BTreeMap<String, String>,
}

fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in read(RULES).lines() {
        let text = line.trim();
        let begins = [("- alert: ", true), ("- record: ", false)];
        if let Some((name, is_alert)) = begins.iter().find_map(|(word, alert)| Some((text.strip_prefix(word)?, *alert)))
        {
            rules.push(Rule { name: name.to_owned(), is_alert, ..Rule::default() });
        } else if let Some(rule) = rules.last_mut() {
            if line.starts_with("          ") && rule.fields.is_empty() {
                rule.expr += &format!("{text} ");
            } else if let Some((key, value)) = text.split_once(": ")
                && key != "expr"
            {
                rule.fields.insert(key.to_owned(), value.trim_matches('\'').to_owned());
            }
        }
    }
    rules
}

/// The selectors of a query.
#[derive(Default)]
struct Selectors(Vec<VectorSelector>);

impl ExprVisitor for Selectors {
    type Error = Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
        match expr {
            Expr::VectorSelector(selector) => self.0.push(selector.clone()),
            Expr::MatrixSelector(selector) => self.0.push(selector.vs.clone()),
            _ => {}
        }
        Ok(true)
    }
}

/// What is wrong with a query: every selector has to name a metric that exists, and only labels that it has.
fn problems(query: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let scraped = families(&expose(&Arc::new(Telemetry::default()), Exposition::Text));
    let expr = match parse(query) {
        Ok(expr) => expr,
        Err(problem) => return vec![format!("{query}: {problem}")],
    };
    let mut selectors = Selectors::default();
    let Ok(_) = walk_expr(&mut selectors, &expr);
    assert!(!selectors.0.is_empty(), "{query} asks for nothing");
    let mut problems = Vec::new();
    for selector in selectors.0 {
        let name = selector.name.unwrap_or_default();
        if name == "up" || recorded.contains(&name) {
            continue;
        }
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| scraped.get(name.strip_suffix(part)?));
        let Some(family) = family.or_else(|| scraped.get(&name)) else {
            problems.push(format!("{query}: there is no metric {name}"));
            continue;
        };
        for matcher in &selector.matchers.matchers {
            let of_prometheus = ["job", "instance", "le"].contains(&matcher.name.as_str());
            if !of_prometheus && !family.labels.contains(&matcher.name) {
                problems.push(format!("{query}: {name} has no label {}", matcher.name));
            }
        }
    }
    problems
}

#[test]
fn every_rule_asks_for_metrics_that_exist_and_each_alert_says_what_to_do() {
    let rules = rules();
    let recorded: BTreeSet<String> = rules.iter().filter(|rule| !rule.is_alert).map(|rule| rule.name.clone()).collect();
    assert_eq!(recorded.len(), 6);
    let runbook = anchors(&read("deploy/README.md"));
    let mut wrong = Vec::new();
    for rule in &rules {
        wrong.extend(problems(&rule.expr, &recorded));
        if !rule.is_alert {
            continue;
        }
        let field = |key: &str| rule.fields.get(key).map_or("", String::as_str);
        for key in ["summary", "description", "runbook_url", "labels"] {
            assert!(!field(key).is_empty(), "{} has no {key}", rule.name);
        }
        assert!(["{severity: page}", "{severity: ticket}"].contains(&field("labels")), "{rule:?}");
        let (file, anchor) = field("runbook_url").split_once('#').unwrap();
        assert_eq!(file, "deploy/README.md");
        assert!(runbook.iter().any(|heading| heading == anchor), "{} has no heading {anchor}", rule.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let alerts = rules.iter().filter(|rule| rule.is_alert).count();
    assert!(read("deploy/prometheus/README.md").contains(&format!("{alerts} alerts")), "{alerts} alerts");
}

#[test]
fn each_alert_is_tested_to_fire_and_to_be_silent() {
    let tests = read("deploy/prometheus/rules_test.yml");
    for Rule { name, .. } in rules().into_iter().filter(|rule| rule.is_alert) {
        for case in ["fires", "is silent"] {
            assert!(tests.contains(&format!("- name: {name} {case}\n")), "{name} is not tested: {case}");
        }
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist_and_its_panels_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&read("deploy/prometheus/dashboard.json")).unwrap();
    assert_eq!(dashboard["uid"], "cancel-worker");
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let recorded: BTreeSet<String> = rules().into_iter().filter(|rule| !rule.is_alert).map(|rule| rule.name).collect();
    let (mut ids, mut places, mut wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(x < 24 && places.insert((x, y)), "{} lies upon another", panel["title"]);
        }
        if panel["type"] == "row" {
            continue;
        }
        for part in [&panel["title"], &panel["description"], &panel["fieldConfig"]["defaults"]["unit"]] {
            assert!(part.as_str().is_some_and(|text| !text.is_empty()), "{panel}");
        }
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
            wrong.extend(problems(&query, &recorded));
        }
    }
    assert_eq!(panels.iter().filter(|panel| panel["type"] == "row").count(), 4);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_query_for_what_is_not_there_is_caught() {
    let none = BTreeSet::new();
    for query in
        ["sum(cancel_worker_nothing)", "cancel_worker_ready{queue=\"dead\"}", "sum(rate(cancel_worker_ready[5m])"]
    {
        assert_eq!(problems(query, &none).len(), 1, "{query}");
    }
    assert!(
        problems("rate(cancel_worker_request_duration_seconds_bucket{le=\"5\",outcome=\"failed\"}[5m])", &none)
            .is_empty()
    );
}
