//! `bursar top`: a running scheduler in a terminal, read from its inspection page once a second.

mod address;
mod client;
mod screen;
mod view;

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::crossterm::terminal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

pub use address::Address;
use screen::Seen;

use crate::options::TopOptions;

/// How often the service is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take: while somebody looks, and where one answer is all that is wanted, from a service that
/// may be very busy.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_ONCE: Duration = Duration::from_secs(60);
/// How long a new snapshot or a key waits to be seen at most.
const LOOK: Duration = Duration::from_millis(100);
/// Columns where there is no terminal.
const COLUMNS: u16 = 120;
/// Waits, holders, modules and sections: as many as a large terminal may have lines for, and as many as are read where
/// it is not looked at for long.
const MANY: usize = 100;
const FEW: usize = 10;

/// Shows the scheduler behind an address until somebody presses `q`, or once as text.
pub fn top(options: &TopOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if options.once {
        let look = client::look(&options.address, FEW, PATIENCE_ONCE);
        let view = runtime.block_on(look).with_context(|| options.address.to_string())?;
        let columns = match std::io::stdout().is_terminal() {
            true => terminal::size().map_or(COLUMNS, |(columns, _)| columns),
            false => COLUMNS,
        };
        return print(&screen::text(&options.address, &view, columns));
    }
    if !std::io::stdout().is_terminal() {
        bail!("the standard output is no terminal; `--once` prints one screen as text");
    }
    let (tell, seen) = watch::channel(Seen::default());
    runtime.spawn(ask(options.address.clone(), tell));
    let terminal = ratatui::try_init().context("the terminal")?;
    let shown = show(terminal, &options.address, &seen);
    ratatui::restore();
    // An answer that is on its way is not waited for.
    runtime.shutdown_background();
    shown
}

fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads may have read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("the standard output"),
        _ => Ok(()),
    }
}

/// Asks for one snapshot after the other for as long as somebody looks.
async fn ask(address: Address, tell: watch::Sender<Seen>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !tell.is_closed() {
        ticks.tick().await;
        let answer = client::look(&address, MANY, PATIENCE).await;
        tell.send_modify(|seen| match answer {
            Ok(view) => *seen = Seen { view: Some(view), error: None },
            // What was seen last stays.
            Err(error) => seen.error = Some(format!("{error:#}")),
        });
    }
}

/// Draws what is seen, again and again.
fn show(mut terminal: DefaultTerminal, address: &Address, seen: &watch::Receiver<Seen>) -> anyhow::Result<()> {
    loop {
        terminal
            .draw(|frame| frame.render_widget(screen::screen(address, &seen.borrow(), frame.area()), frame.area()))?;
        if event::poll(LOOK)? && matches!(event::read()?, Event::Key(key) if quits(key)) {
            return Ok(());
        }
    }
}

fn quits(key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}
