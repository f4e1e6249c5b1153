//! Does it cost an urgent request anything that very many wait who have time?

use std::hint::black_box;

use cpu_time::ThreadTime;

use bursar_benches::critical::Crowd;
use bursar_benches::{Goal, Goals, Options, Subject, Table, interleave, nanos_each};

pub fn run(options: &Options, goals: &mut Goals) {
    let (few, many) = (10, options.pick(100_000, 10_000));
    let rounds = options.pick(31, 5);
    let passes = options.pick(20_000, 2_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let subject = |waiters: usize| {
        let mut crowd = Crowd::new(waiters);
        Subject::new(waiters.to_string(), move || {
            let start = ThreadTime::now();
            (0..passes).for_each(|_| black_box(&mut crowd).pass());
            nanos_each(start.elapsed(), passes)
        })
    };
    let found = interleave(vec![subject(few), subject(many)], rounds);
    println!("\na CRITICAL request that waits, the release that serves it, and its taking up\n");
    let mut table = Table::new(["IDLE in line", "ns"]);
    for name in found.names() {
        table.row([name.to_owned(), format!("{:.0}", found.median(name, |&ns| ns))]);
    }
    table.print();
    let ratio = found.ratio(&many.to_string(), &few.to_string(), |&ns| ns);
    goals.check(format!("a CRITICAL one among {many} IDLE, x among {few}"), ratio, Goal::AtMost(1.2, None));
}
