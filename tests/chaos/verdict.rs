use std::time::Duration;

use lapin::message::Delivery;
use lapin::types::AMQPValue;
use tokio::time::{Instant, sleep};

use crate::collector::Answer;
use crate::requests;
use crate::row::Row;
use crate::support::{Amqp, Process, event_id, key_of};
use crate::test_env::TestEnv;

/// When no event has come for so long, no more will.
const SILENCE: Duration = Duration::from_secs(60);

/// How many remarks a row carries.
const EXAMPLES: usize = 3;

impl TestEnv {
    /// Waits until everything is settled, ends the workers, and checks each request. All have to be confirmed.
    pub async fn verdict(&mut self, workers: Vec<Process>, injected: usize, recovery: Option<Duration>) -> Row {
        let mut row = Row::new(injected, self.requests(), recovery);
        self.all_answered().await;
        self.end(workers, &mut row).await;
        self.collector().look(|answers| judge(answers, self.requests(), &mut row));
        let (scrapes, broken) = self.ledger.told();
        row.expect(scrapes > 0 && broken.is_empty(), format!("{scrapes} scrapes; {}", broken.join("; ")));
        row.notes.push(format!("the ledger held at {scrapes} scrapes"));
        let amqp = self.amqp().await;
        let dead = self.name("dead");
        let depth = u16::try_from(amqp.queue_depth(&dead).await.unwrap_or(0)).unwrap_or(u16::MAX);
        for letter in amqp.drain(&dead, depth, SILENCE).await {
            if let Some(problem) = misplaced(&letter, self.requests()) {
                row.dead += 1;
                remark(&mut row, problem);
            }
        }
        row
    }

    /// Waits until every request is answered, and the queues are empty.
    pub async fn settled(&self) {
        self.all_answered().await;
        let left = self.drained(&self.amqp().await).await;
        assert!(left.is_empty(), "left in queues: {left:?}");
    }

    async fn amqp(&self) -> Amqp {
        Amqp::connect(self.live_uri().await).await
    }

    async fn all_answered(&self) {
        self.answered(self.requests()).await;
    }

    /// Waits until each of so many first requests has an answer, or nothing has come for long.
    pub async fn answered(&self, count: usize) {
        let mut answered = vec![false; count];
        let mut seen = 0;
        while answered.contains(&false) {
            let more = self.collector().wait(SILENCE, |answers| answers.len() > seen).await;
            if !more {
                return;
            }
            self.collector().look(|answers| {
                for answer in &answers[seen..] {
                    if let Some(number) = requests::number(&answer.identity, answered.len()) {
                        answered[number] = true;
                    }
                }
                seen = answers.len();
            });
        }
    }

    /// Duplicates may still be on their way. Waits until they are through, and until the workers have ended well.
    async fn end(&mut self, workers: Vec<Process>, row: &mut Row) {
        let amqp = self.amqp().await;
        let left = self.drained(&amqp).await;
        row.expect(left.is_empty(), format!("left in queues: {left:?}"));
        for mut worker in workers {
            worker.signal("TERM");
            let status = worker.wait().await;
            row.expect(status.success(), format!("a worker ended with {status} ({})", worker.log().display()));
        }
        // What the workers published last is collected.
        let left = self.drained(&amqp).await;
        row.expect(left.is_empty(), format!("left in queues after the workers' end: {left:?}"));
        sleep(Duration::from_millis(300)).await;
    }

    /// Waits until all queues but `dead` have been empty for a second; answers with those that are not.
    async fn drained(&self, amqp: &Amqp) -> Vec<(String, u32)> {
        let end = Instant::now() + SILENCE;
        let mut quiet = Instant::now();
        loop {
            let mut left = Vec::new();
            for queue in self.queues().into_iter().filter(|queue| *queue != self.name("dead")) {
                let depth = amqp.queue_depth(&queue).await.unwrap_or(0);
                if depth > 0 {
                    left.push((queue, depth));
                }
            }
            if !left.is_empty() {
                quiet = Instant::now();
            }
            if quiet.elapsed() > Duration::from_secs(1) || Instant::now() > end {
                return left;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Compares all events with what is true.
fn judge(answers: &[Answer], count: usize, row: &mut Row) {
    let mut given = vec![0_usize; count];
    for answer in answers {
        let Answer { identity, name, id, verdict, .. } = answer;
        let right_id = event_id(&key_of("request_id", identity, name), verdict);
        let known = requests::number(identity, count);
        let right = known.is_some_and(|number| requests::truth(number) == verdict && right_id == *id);
        if let Some(number) = known {
            given[number] += 1;
        }
        if !right {
            row.wrong += 1;
            remark(row, format!("wrong: {verdict} for {identity:?} in event {id}"));
        }
    }
    row.doubled = given.iter().map(|count| count.saturating_sub(1)).sum();
    for number in (0..count).filter(|number| given[*number] == 0) {
        row.lost += 1;
        remark(row, format!("lost: {}", requests::identity(number)));
    }
}

/// What a dead letter should not be there for; `None` for the request that ended as failed.
fn misplaced(letter: &Delivery, count: usize) -> Option<String> {
    let headers = letter.properties.headers().clone().unwrap_or_default();
    let text = |name: &str| match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    };
    let (reason, identity) = (text("cancel-worker-reason"), text("cancel-worker-identity"));
    let number = requests::number(&identity, count);
    let expected = reason == "failed" && number.is_some_and(|number| requests::truth(number).starts_with("failed"));
    let start = String::from_utf8_lossy(&letter.data).chars().take(120).collect::<String>();
    (!expected).then(|| format!("dead: reason {reason:?}, identity {identity:?}: {start}"))
}

fn remark(row: &mut Row, text: String) {
    if row.remarks.len() < EXAMPLES {
        row.remarks.push(text);
    }
}
