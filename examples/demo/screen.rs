//! Draws the dashboard: one picture that is repainted in place on a terminal, a plain line now and then elsewhere.

use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use console::{Alignment, Term, pad_str, style};

use crate::amount::{Amount, grouped};
use crate::dashboard::{Figures, Series};

/// Time between two plain lines.
const LINE: Duration = Duration::from_secs(3);
/// Width of a name and of an amount in the picture.
const NAME_WIDTH: usize = 17;
const AMOUNT_WIDTH: usize = 14;
/// Lines of the picture that are not sales: title, figures, headings, gaps.
const OTHER_LINES: usize = 7;
/// Lines of the story that are kept in sight, if there is room.
const STORY_LINES: usize = 8;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_TO_LINE_END: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Where the dashboard is shown.
pub struct Screen {
    term: Term,
    /// True while the picture has the terminal.
    live: bool,
    begin: Instant,
    line_due: Instant,
    story: Vec<String>,
    /// Lines of the story that stand on the terminal already.
    printed: usize,
}

impl Screen {
    /// A picture if standard output is a terminal, from the first figures on; else lines.
    pub fn open() -> Screen {
        let now = Instant::now();
        Screen { term: Term::stdout(), live: false, begin: now, line_due: now, story: Vec::new(), printed: 0 }
    }

    /// Adds a line to the story that is told under the figures.
    pub fn tell(&mut self, text: &str) -> io::Result<()> {
        self.story.push(format!("{}  {text}", clock(self.begin.elapsed())));
        if self.live { Ok(()) } else { self.print_story() }
    }

    fn print_story(&mut self) -> io::Result<()> {
        for line in self.story.iter().skip(self.printed) {
            self.term.write_line(line)?;
        }
        self.printed = self.story.len();
        Ok(())
    }

    /// Shows the figures.
    pub fn show(&mut self, figures: &Figures) -> io::Result<()> {
        if self.term.is_term() {
            if !self.live {
                self.live = true;
                self.term.write_str(ENTER)?;
            }
            return self.term.write_str(&self.picture(figures));
        }
        if Instant::now() < self.line_due {
            return Ok(());
        }
        self.line_due = Instant::now() + LINE;
        self.term.write_line(&plain_line(figures, self.begin.elapsed()))
    }

    /// Gives the terminal back, with the story on it. Returns the time that it all took.
    pub fn close(mut self) -> io::Result<Duration> {
        self.leave();
        self.print_story()?;
        Ok(self.begin.elapsed())
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.live) {
            let _ = self.term.write_str(LEAVE);
        }
    }

    /// The whole picture as one string, so that it is written at once and nothing flickers.
    fn picture(&self, figures: &Figures) -> String {
        let (rows, columns) = self.term.size();
        let (rows, columns) = (usize::from(rows), usize::from(columns));
        let mut lines = vec![
            format!(" {}   every figure is read back from the topics", style("shop: sales").bold()),
            figures_line(figures, self.begin.elapsed()),
            String::new(),
        ];
        let half = columns.saturating_sub(3) / 2;
        lines.push(format!(
            " {} {}",
            pad_str(&style("by category, EUR").underlined().to_string(), half, Alignment::Left, None),
            style("by region, EUR").underlined()
        ));
        let story = self.story.len().min(STORY_LINES);
        let room = rows.saturating_sub(OTHER_LINES + story).max(3);
        for at in 0..figures.categories.len().max(figures.regions.len()).min(room) {
            let cell = |list: &[Series]| list.get(at).map(|series| series_cell(series, half)).unwrap_or_default();
            let left = cell(&figures.categories);
            lines.push(format!(" {} {}", pad_str(&left, half, Alignment::Left, None), cell(&figures.regions)));
        }
        lines.push(String::new());
        let told = self.story.iter().skip(self.story.len() - story);
        lines.extend(told.map(|line| format!(" {line}")));
        lines.truncate(rows.saturating_sub(1));

        let mut picture = String::from(HOME);
        for line in lines {
            picture.push_str(&console::truncate_str(&line, columns, "…"));
            picture.push_str(CLEAR_TO_LINE_END);
            picture.push_str("\r\n");
        }
        picture.push_str(CLEAR_BELOW);
        picture
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Minutes and seconds.
pub fn clock(elapsed: Duration) -> String {
    format!("{:02}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

fn freshness(figures: &Figures) -> String {
    figures.freshness.map_or("-".to_owned(), |seconds| format!("{seconds:.1} s"))
}

fn figures_line(figures: &Figures, elapsed: Duration) -> String {
    format!(
        " {}   freshness {}   records per second {}   read {}   orders {}   sales {}",
        clock(elapsed),
        style(freshness(figures)).bold(),
        style(grouped(figures.per_second)).bold(),
        grouped(figures.read),
        grouped(figures.orders),
        figures.sales
    )
}

fn plain_line(figures: &Figures, elapsed: Duration) -> String {
    let mut line = format!(
        "{}  freshness {} | {} records/s, {} read | {} orders | sales {} EUR",
        clock(elapsed),
        freshness(figures),
        grouped(figures.per_second),
        grouped(figures.read),
        grouped(figures.orders),
        figures.sales
    );
    for (label, list) in [("by category", &figures.categories), ("by region", &figures.regions)] {
        let _ = write!(line, " | {label}:");
        for series in list.iter().take(3) {
            let _ = write!(line, " {} {}", series.name, series.amount);
        }
    }
    line
}

fn series_cell(series: &Series, width: usize) -> String {
    let name = pad_str(&series.name, NAME_WIDTH, Alignment::Left, Some("…"));
    let bars = width.saturating_sub(NAME_WIDTH + AMOUNT_WIDTH + 2);
    format!("{name}{:>AMOUNT_WIDTH$} {}", series.amount, style(bar_text(&series.bars, bars)).cyan())
}

/// The newest bars that fit, scaled to the largest of them.
fn bar_text(bars: &[Amount], width: usize) -> String {
    let shown = bars.split_at(bars.len().saturating_sub(width)).1;
    let largest = shown.iter().map(|bar| bar.0).max().unwrap_or(0).max(1);
    let steps = BARS.len() as i64 - 1;
    let level = |bar: &Amount| usize::try_from(bar.0.max(0) * steps / largest).unwrap_or(0);
    shown.iter().map(|bar| BARS.get(level(bar)).copied().unwrap_or(' ')).collect()
}
