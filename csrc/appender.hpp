// Appends blocks of whole lines to a file, on a thread of its own that no interpreter holds up. Which file, and when it
// is synced or changed, is its keeper's to say (`attend`, `use`), on another thread: no write waits for that.
//
//   put(block) --queue--> thread: one write() of all that waits --> taken --> done(): which blocks are in the file
//                           ^ use(file), refuse(error)                 |
//                         keeper <------------- attend() -------------+
//
// Every call is thread-safe. A disk that hangs holds up the thread and the keeper, and nobody else.
#pragma once
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace headgate {

// Since the start.
struct AppenderCounts {
  uint64_t queued_bytes = 0;  // handed over in all
  uint64_t taken_bytes = 0;   // of them written or dropped
  uint64_t written = 0;       // lines
  uint64_t failed = 0;        // lines that the file refused
};

// What the keeper acts on.
struct AppenderState {
  uint64_t bytes = 0;  // in the present file, of ours
  uint64_t taken = 0;  // the last block that is written or dropped
  int error = 0;       // of the last write; 0: it went well
  int failure = 0;     // of the last write that did not
  bool ended = false;  // nothing more will be written
};

// A block whose fate somebody waits for.
struct AppenderDone {
  uint64_t block;
  bool written;
};

class Appender {
 public:
  // `most_bytes`: from this size of a file on its keeper is woken. `synced_first`: `done` tells of a block only after
  // `synced` has.
  Appender(uint64_t most_bytes, bool synced_first)
      : most_bytes_(most_bytes), synced_first_(synced_first), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  Appender(const Appender&) = delete;
  Appender& operator=(const Appender&) = delete;
  ~Appender() {
    if (event_ >= 0) close(event_);
  }

  // The thread takes no signals: those are for the interpreter. It lives as long as it must, whoever else is gone.
  static void start(const std::shared_ptr<Appender>& self) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([self] { self->run(); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  // Readable while `done` has something to tell. -1: none could be had.
  int event() const { return event_; }

  // The block's number, from 1 on. `told`: `done` will tell of it.
  uint64_t put(const char* data, size_t size, uint64_t lines, bool told) {
    std::string copy(data, size);
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({std::move(copy), lines, ++last_, told});
    counts_.queued_bytes += size;
    work_.notify_one();
    return last_;
  }

  // Whether the block is taken. Waits for that, but no longer than `most_ns`; in vain five times at once, and
  // then once in `pause_ns`.
  bool settle(uint64_t block, int64_t most_ns, int64_t pause_ns) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (taken_ >= block) return true;
    const std::chrono::nanoseconds pause(pause_ns);
    const auto now = std::chrono::steady_clock::now();
    if (waits_from_ > now + (kVainWaits - 1) * pause) return false;
    const bool taken = wait(&lock, block, most_ns);
    if (!taken) waits_from_ = std::max(waits_from_, now) + pause;
    return taken;
  }

  bool wait_taken(uint64_t block, int64_t most_ns) {
    std::unique_lock<std::mutex> lock(mutex_);
    return wait(&lock, block, most_ns);
  }

  uint64_t last() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return last_;
  }

  AppenderCounts counts() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return counts_;
  }

  // Blocks put with `told` whose fate is known and was not told yet.
  std::vector<AppenderDone> done() {
    uint64_t count;
    while (read(event_, &count, sizeof count) < 0 && errno == EINTR) {
    }
    std::lock_guard<std::mutex> lock(mutex_);
    auto end = std::find_if(done_.begin(), done_.end(),
                            [this](const AppenderDone& one) { return synced_first_ && one.block > synced_; });
    std::vector<AppenderDone> told(done_.begin(), end);
    done_.erase(done_.begin(), end);
    return told;
  }

  // No more is put: what was is still written.
  void end() {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
    work_.notify_one();
  }

  // For the keeper

  // Waits until there is something to act on, but no longer than `most_ns`.
  AppenderState attend(int64_t most_ns) {
    std::unique_lock<std::mutex> lock(mutex_);
    keeper_.wait_for(lock, std::chrono::nanoseconds(most_ns), [this] { return attention_; });
    attention_ = false;
    return {bytes_, taken_, error_, failure_, ended_};
  }

  // Write to `file` from now on. The one before, which nothing is written to any more; -1: there was none.
  int use(int file) { return change(file, 0); }

  // There is no file, because of `error`: drop what comes.
  int refuse(int error) { return change(-1, error); }

  // All blocks up to this one are on the disk, or, for want of `well`, may not be.
  void synced(uint64_t block, bool well) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (AppenderDone& one : done_) {
      if (one.block > synced_ && one.block <= block && !well) one.written = false;
    }
    synced_ = std::max(synced_, block);
    if (!done_.empty() && done_.front().block <= synced_) signal();
  }

 private:
  static constexpr size_t kMostAtOnce = size_t{1} << 20;
  static constexpr int kVainWaits = 5;  // a thread that gets no processor for a moment is no slow disk

  struct Block {
    std::string data;  // whole lines
    uint64_t lines, number;
    bool told;
  };

  bool wait(std::unique_lock<std::mutex>* lock, uint64_t block, int64_t most_ns) {
    const std::chrono::nanoseconds most(most_ns);
    ++waiting_;
    const bool taken = taken_now_.wait_for(*lock, most, [this, block] { return taken_ >= block; });
    --waiting_;
    return taken;
  }

  int change(int file, int error) {
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait(lock, [this] { return !writing_; });
    const int before = file_;
    file_ = file;
    refusal_ = error;
    bytes_ = 0;
    torn_ = false;
    work_.notify_one();
    return before;
  }

  void run() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return queue_.empty() ? ending_ : file_ >= 0 || refusal_ != 0; });
      if (queue_.empty()) break;
      write_some(&lock);
    }
    ended_ = true;
    wake_keeper();
  }

  void write_some(std::unique_lock<std::mutex>* lock) {
    std::vector<Block> blocks;
    std::string data(torn_ ? 1 : 0, '\n');  // what broke off is a line by itself, which readers pass over
    const size_t before = data.size();
    do {
      blocks.push_back(std::move(queue_.front()));
      queue_.pop_front();
      data += blocks.back().data;
    } while (!queue_.empty() && data.size() < kMostAtOnce);
    const int file = file_;
    int error = refusal_;
    size_t out = 0;
    if (file >= 0) {
      writing_ = true;
      lock->unlock();
      error = write_all(file, data, &out);
      lock->lock();
      writing_ = false;
      idle_.notify_all();
      bytes_ += out;
      if (out) torn_ = data[out - 1] != '\n';
    }
    take(blocks, data, before, out);
    const bool changed = error != error_;
    error_ = error;
    if (error) failure_ = error;
    if (changed || bytes_ >= most_bytes_ || (synced_first_ && out)) wake_keeper();
  }

  // The error, 0 for none; `out`: how much is in the file.
  static int write_all(int file, const std::string& data, size_t* out) {
    while (*out < data.size()) {
      const ssize_t n = write(file, data.data() + *out, data.size() - *out);
      if (n > 0) {
        *out += static_cast<size_t>(n);
      } else if (n == 0) {
        return EIO;
      } else if (errno != EINTR) {
        return errno;
      }
    }
    return 0;
  }

  // Count `blocks`, which lie in `data` from `at` on; the first `out` bytes of it are in the file.
  void take(const std::vector<Block>& blocks, const std::string& data, size_t at, size_t out) {
    for (const Block& block : blocks) {
      const size_t end = at + block.data.size();
      uint64_t whole = block.lines;
      if (end > out) {
        const auto begin = data.begin() + static_cast<std::ptrdiff_t>(at);
        const auto upto = data.begin() + static_cast<std::ptrdiff_t>(std::max(at, out));
        whole = static_cast<uint64_t>(std::count(begin, upto, '\n'));
      }
      counts_.written += whole;
      counts_.failed += block.lines - whole;
      counts_.taken_bytes += block.data.size();
      if (block.told) done_.push_back({block.number, end <= out});
      at = end;
    }
    taken_ = blocks.back().number;
    if (waiting_) taken_now_.notify_all();
    if (!done_.empty() && !synced_first_) signal();
  }

  void wake_keeper() {
    attention_ = true;
    keeper_.notify_one();
  }

  void signal() {
    const uint64_t one = 1;
    while (write(event_, &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

  const uint64_t most_bytes_;
  const bool synced_first_;
  const int event_;
  mutable std::mutex mutex_;
  std::condition_variable work_, taken_now_, idle_, keeper_;
  std::deque<Block> queue_;
  std::deque<AppenderDone> done_;
  AppenderCounts counts_;
  uint64_t last_ = 0, taken_ = 0, synced_ = 0, bytes_ = 0;
  int file_ = -1, refusal_ = 0, error_ = 0, failure_ = 0, waiting_ = 0;
  bool writing_ = false, torn_ = false, ending_ = false, ended_ = false, attention_ = false;
  std::chrono::steady_clock::time_point waits_from_{};
};

}  // namespace headgate
