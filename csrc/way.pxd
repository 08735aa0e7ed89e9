# Declarations of http.hpp, ring.hpp, chat.hpp, lengths.hpp, load.hpp, numbers.hpp, look.hpp, policy.hpp, prefixes.hpp, replicas.hpp
# and frame.hpp.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uint8_t
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector

from cost cimport Errors, StepCost, StepSums


cdef extern from "<string_view>" namespace "std" nogil:
    cdef cppclass string_view:
        string_view()
        string_view(const char*, size_t)
        const char* data()
        size_t size()


cdef extern from "http.hpp" namespace "headgate" nogil:
    cdef cppclass HttpLimits:
        size_t head_bytes
        size_t headers
        size_t body_bytes
    cdef cppclass PlainRequest:
        string_view body
        string_view authorization
        string_view api_key
        string_view request_id
        string_view session_id
        string_view traceparent
    string echoed_id(string_view) except +
    int read_plain(string_view, string_view, const HttpLimits&, PlainRequest*)
    void add_framed(string*, string_view) except +


cdef extern from "piece.hpp" namespace "headgate" nogil:
    const size_t kPieceBytes
    const size_t kBodyPieceBytes
    size_t piece_end(string_view, size_t, bool)


cdef extern from "ring.hpp" namespace "headgate" nogil:
    cdef cppclass Parcel:
        int fd
        ssize_t sent
        string data
    cdef cppclass Ring:
        bool is_open()
        bool open()
        void send(Parcel*, size_t)
    ssize_t send_now(int, const char*, size_t)


cdef extern from "chat.hpp" namespace "headgate" nogil:
    cdef cppclass ChatTurn:
        string_view role
        string_view text
    cdef cppclass Chat:
        string_view model
        vector[ChatTurn] turns
        bool stream
        int64_t max_tokens
        int64_t choices
        uint32_t needs
    cdef cppclass TurnShares:
        double earlier
        double decay
        double system
    bool chats(uint32_t)
    bool read_chat(string_view, Chat*) except +
    size_t utf8_bytes(string_view)
    void weigh[T](const vector[ChatTurn]&, const TurnShares&, T*) except +


cdef extern from "lengths.hpp" namespace "headgate" nogil:
    cdef cppclass LengthLevel:
        Errors errors
        double surplus()


cdef extern from "load.hpp" namespace "headgate" nogil:
    cdef cppclass LoadFrame:
        int64_t running
        int64_t waiting
        double kv_use
        double prefix_hit
        double prefill_tokens_per_s
        double time_per_output_token_s
        int64_t context_tokens
        StepSums sums
    cdef cppclass Rates:
        double prefill_tokens_per_s
        double time_per_output_token_s
    cdef cppclass StepPrices:
        double step_s
        double step_running_s
        double step_context_s
        double step_prefill_s
        double cost_trust
        double wait_trust
    cdef cppclass Length:
        double tokens
        double log_sd
    uint32_t next_holder()
    cdef cppclass Load:
        LoadFrame frame
        StepCost cost
        Errors first_token_errors
        Errors output_token_errors
        LengthLevel lengths
        double overhead_s
        double busy
        double others
        Rates fixed
        double mean_output_tokens
        int64_t in_flight
        int64_t most_running
        int64_t lined
        uint64_t ends
        double served_s
        uint64_t changes
        void reported(const LoadFrame&)
        void forget()
        double worked_s()
        bool learn(double, double)
        uint32_t holder
        double hit(double)
        void submitted(int64_t, uint64_t, double, Length)
        void ended()
        void answered(int64_t, int64_t, int64_t, double, double, uint64_t, bool)
        StepPrices prices()
        bool room()
        bool open()
        int64_t running()
        int64_t waiting()
        double prefill_tokens_per_s()
        double time_per_output_token_s()
        double queued_s()
        double queued_tokens()
        double queued_steps()


cdef extern from "numbers.hpp" namespace "headgate" nogil:
    cpdef enum Rule:
        kByUtility
        kByThreshold
        kPinned
    cpdef enum Reason:
        kUtility
        kThreshold
        kOnlyCandidate
        kPinnedReason
        kCanaryReason
    const char** kExcludedWords
    const size_t kExcludedRules
    const char** kCauseWords
    const size_t kPriceCauses
    ctypedef uint32_t Bits
    ctypedef int32_t Cause
    cdef cppclass Maybe:
        bool given
        double value
    cdef enum Kind:
        kFlag
        kCount
        kIndex
        kNumber
        kMaybe
        kBits
        kRule
        kExcluded
        kCause
    cdef cppclass Field:
        const char* name
        Kind kind
        size_t offset
    cdef cppclass Table:
        const Field* fields
        size_t size
    Table member_table()
    Table score_table()
    Table prompt_table()
    Table draw_table()
    Table correlation_table()
    Table belief_table()
    Table option_table()
    Table query_table()
    Table settings_table()
    Table term_table()
    # Of the numbers themselves only those that native code names: all others go by the tables.
    cdef cppclass Member:
        bool ready
        bool breaker_open
        Bits capabilities
        int64_t context_tokens
        int64_t waiting
        double prefix_hit
        double prefill_tokens_per_s
        double time_per_output_token_s
        double mean_output_tokens
        double queued_gpu_s
        double usd_per_s
        int32_t canary_of
        double canary_weight
        int64_t running
        int64_t held_tokens
        double queued_tokens
        double queued_steps
        double busy
        double step_s
        double step_running_s
        double step_context_s
        double step_prefill_s
        double overhead_s
        double cost_trust
        double wait_trust
        int64_t replicas
        int32_t replica
        int32_t rival
        double finish_s
        double rival_finish_s
        double surcharge
        Cause surcharge_of
        double favour
        double output_surplus
    cdef cppclass Belief:
        double spread
        bool run
        Maybe seen
        Maybe cost_usd
    cdef cppclass Option:
        double quality
        double cost_usd
        double spread
        bool run
        bool excluded
        double favour
        Maybe prior
    cdef cppclass Score:
        double quality
        double output_tokens
        double output_log_sd
    cdef cppclass Question:
        int64_t prompt_tokens
        double draw
        double correlation
    cdef cppclass Settings:
        Rule rule
        double threshold
        int32_t pinned
        int64_t most_waiting
    cdef cppclass Term:
        pass
    cdef cppclass Choice:
        int32_t member
        Reason reason
        int32_t runner_up
        double margin
        double score
    cdef cppclass Decided:
        Question question
        Settings settings
        vector[int32_t] tried
        vector[Member] members
        vector[Score] scores
        vector[Belief] beliefs
        Choice choice


cdef extern from "look.hpp" namespace "headgate" nogil:
    void look_at "headgate::look"(const Load&, double, Member*)


cdef extern from "policy.hpp" namespace "headgate" nogil:
    void decide(Decided*) except +
    Length length_of(const Decided&)
    Question chat_question(int64_t, int64_t, int64_t, Bits)
    double draw_of(string_view)


cdef extern from "policy.hpp" namespace "headgate::policy" nogil:
    void terms_of(const Decided&, vector[Term]*) except +
    double log_odds "headgate::policy::logit"(double)
    double win_rate(double, double)
    int32_t best_of(const double*, const double*, size_t, double) except +


cdef extern from "prefixes.hpp" namespace "headgate" nogil:
    cdef cppclass Block:
        uint64_t key
        uint32_t end
    cdef cppclass PromptBlocks:
        vector[Block] blocks
        size_t bytes
        void begin(string_view) except +
        void add(string_view, string_view) except +
        void end() except +
    cdef cppclass Prefixes:
        void look(const PromptBlocks&) except +
        uint32_t matched(uint32_t)
        const vector[uint32_t]& found()
        void note(const PromptBlocks&, uint32_t) except +


cdef extern from "replicas.hpp" namespace "headgate::policy" nogil:
    const size_t kMostCompared
    Member best_replica(const Member*, size_t, const Question&, const Settings&)
    cdef cppclass Draws:
        uint64_t seed
        size_t below(size_t)


cdef extern from "frame.hpp" namespace "headgate" nogil:
    size_t submit_size(uint64_t, string_view, string_view, string_view)
    void put_submit(uint8_t*, uint64_t, string_view, string_view, string_view)
    cdef cppclass Finish:
        int64_t prompt_tokens
        int64_t completion_tokens
        int64_t cached_tokens
        double first_token_s
        double total_s
        string_view reason
    bool plausible(const Finish&)
    bool is_cut(string_view)
    cdef cppclass Chunk:
        uint64_t id
        string_view data
    bool next_frame(string_view, size_t, string_view*)
    bool read_chunks(string_view, vector[Chunk]*) except +
    bool read_done(string_view, uint64_t*, Finish*)
    bool read_load(string_view, LoadFrame*)
