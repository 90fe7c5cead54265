use std::fmt;
use std::time::Duration;

/// From the fault's end until events flow again. Debug builds, on machines that may be busy, are given more time.
const RECOVERY: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 5 });

/// What came of a scenario.
#[derive(Default)]
pub struct Row {
    name: &'static str,
    fault: &'static str,
    took: Duration,
    injected: usize,
    requests: usize,
    pub lost: usize,
    pub wrong: usize,
    pub doubled: usize,
    /// Good requests in the dead queue.
    pub dead: usize,
    /// The longest; `None` if events never flowed again, or if the scenario has nothing to recover from.
    recovery: Option<Duration>,
    /// What else went wrong, and examples of what is counted above.
    pub remarks: Vec<String>,
    /// What was measured besides.
    pub notes: Vec<String>,
    /// The scenario broke off.
    broken: Option<String>,
}

impl Row {
    pub fn new(injected: usize, requests: usize, recovery: Option<Duration>) -> Self {
        Self { injected, requests, recovery, ..Self::default() }
    }

    /// Of a scenario that broke off.
    pub fn broken(words: &str) -> Self {
        Self { broken: Some(words.to_owned()), ..Self::default() }
    }

    pub fn named(self, name: &'static str, fault: &'static str, took: Duration) -> Self {
        Self { name, fault, took, ..self }
    }

    /// Notes something else that must hold.
    pub fn expect(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            self.remarks.push(otherwise.into());
        }
    }

    /// Everything that is wrong; nothing if the row passes.
    pub fn problems(&self) -> Vec<String> {
        if let Some(words) = &self.broken {
            return vec![format!("broke off: {words}")];
        }
        let mut problems = self.remarks.clone();
        for (count, what) in [(self.lost, "lost"), (self.wrong, "wrong"), (self.dead, "good requests dead-lettered")] {
            if count > 0 {
                problems.push(format!("{count} {what}"));
            }
        }
        if self.injected == 0 || self.requests == 0 {
            problems.push(format!("{} faults among {} requests show nothing", self.injected, self.requests));
        }
        match self.recovery {
            None => problems.push("events did not flow again".to_owned()),
            Some(took) if took > RECOVERY => problems.push(format!("{took:.1?} to recover, and not {RECOVERY:?}")),
            Some(_) => {}
        }
        problems
    }

    fn cells(&self) -> [String; 10] {
        let recovery = self.recovery.map_or_else(|| "-".to_owned(), |took| format!("{:.1}", took.as_secs_f64()));
        let numbers = [self.injected, self.requests, self.lost, self.wrong, self.doubled, self.dead];
        let [injected, requests, lost, wrong, doubled, dead] = numbers.map(|number| number.to_string());
        let took = format!("{:.0}", self.took.as_secs_f64());
        [self.name.into(), self.fault.into(), injected, requests, lost, wrong, doubled, dead, recovery, took]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems = self.problems();
        let verdict = if problems.is_empty() { "ok".to_owned() } else { format!("FAILED: {}", problems.join("; ")) };
        write!(formatter, "{} … {verdict} ({:.0?})", self.name, self.took)?;
        self.notes.iter().try_for_each(|note| write!(formatter, "\n  {note}"))
    }
}

const HEAD: [&str; 10] =
    ["scenario", "fault", "injected", "requests", "lost", "wrong", "doubled", "dead", "recovery s", "took s"];

/// As Markdown.
pub fn print_table(rows: &[Row]) {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    println!();
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("| {} |", cells.join(" | "));
        if index == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            println!("|-{}-|", rules.join("-|-"));
        }
    }
}

/// The longer of two recoveries; `None` is for ever.
pub fn longest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.zip(other).map(|(one, other)| one.max(other))
}
