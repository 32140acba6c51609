//! Runs the inhabitants of a world: each is a future that sleeps in virtual time or waits for answers.
//!
//! One thread, one queue of events, no clock: what is polled when depends on the seed alone.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::world::World;

/// Names a task.
pub type TaskId = u64;

/// A task.
pub type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The world, as its inhabitants hold it. Never kept borrowed across an await.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<World>>);

impl Shared {
    /// Puts a world where its inhabitants can reach it.
    pub fn new(world: World) -> Shared {
        Shared(Rc::new(RefCell::new(world)))
    }

    /// To look at the world.
    pub fn look(&self) -> Ref<'_, World> {
        self.0.borrow()
    }

    /// To change the world.
    pub fn change(&self) -> RefMut<'_, World> {
        self.0.borrow_mut()
    }

    /// A number from 0 to below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.change().random.below(end)
    }

    /// A number of a range.
    pub fn within(&self, range: Range<u64>) -> u64 {
        self.change().random.within(range)
    }

    /// True once in `count` times on average.
    pub fn one_in(&self, count: u64) -> bool {
        self.change().random.one_in(count)
    }

    /// One of several values.
    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        self.change().random.pick(from)
    }

    /// Waits for a span of virtual time.
    pub async fn sleep(&self, span: Duration) {
        let until = {
            let mut world = self.change();
            let until = world.now().monotonic + span;
            world.wake_at(until);
            until
        };
        std::future::poll_fn(|_| match self.look().now().monotonic >= until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Waits for some milliseconds of a range.
    pub async fn sleep_within(&self, milliseconds: Range<u64>) {
        let span = Duration::from_millis(self.within(milliseconds));
        self.sleep(span).await;
    }

    /// Waits until `condition` holds, asking now and then; says whether it came to hold in time.
    pub async fn wait_until(&self, patience: Duration, condition: impl Fn(&World) -> bool) -> bool {
        let until = self.look().now().monotonic + patience;
        while !condition(&self.look()) {
            if self.look().now().monotonic >= until {
                return false;
            }
            self.sleep(Duration::from_millis(50)).await;
        }
        true
    }

    /// Lets another inhabitant live.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> TaskId {
        self.change().spawn(Box::pin(task))
    }
}

/// Runs a world until something is violated, or nobody lives in it any more.
pub fn run(world: &Shared) {
    let mut tasks: BTreeMap<TaskId, Task> = BTreeMap::new();
    loop {
        // A task that is dropped closes its connections, so the world must not be borrowed then.
        let (born, killed) = world.change().take_births_and_deaths();
        tasks.extend(born);
        for id in killed {
            drop(tasks.remove(&id));
        }
        if world.look().history.violation().is_some() {
            break;
        }
        let ready = world.change().next_ready();
        if let Some(id) = ready {
            let Some(task) = tasks.get_mut(&id) else { continue };
            if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                tasks.remove(&id);
                world.change().has_ended(id);
            }
        } else if tasks.is_empty() || !world.change().step() {
            break;
        }
    }
    // Their connections outlive no world.
    drop(tasks);
}
