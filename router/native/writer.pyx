"""The sending half of a connection, and how what one read brings for many of them leaves at once. See writer.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libcpp.string cimport string

cimport way as native

cdef Py_ssize_t MOST_PARCELS = 1024  # about as many tokens as one read brings
cdef Py_ssize_t MOST_GATHERED_BYTES = 64 * 1024  # of one piece: larger ones are not copied
cdef size_t MOST_KEPT_BYTES = 4 * 1024  # of a parcel's memory


cdef class SendBatch:
    def __cinit__(self, bint io_uring=True):
        self.writers = []
        if io_uring:
            self.ring.open()

    @property
    def io_uring(self):
        return self.ring.is_open()

    cdef int begin(self) except -1:
        self.gathering = True
        return 0

    cdef int end(self) except -1:
        self.gathering = False
        return self.flush()

    cdef int _add(self, Writer writer) except -1:
        if len(self.writers) == MOST_PARCELS:
            self.flush()
        self.writers.append(writer)
        if self.parcels.size() < <size_t>len(self.writers):
            self.parcels.resize(len(self.writers))
        return <int>len(self.writers) - 1

    cdef int flush(self) except -1:
        if self.before is not None and len(self.writers):
            self.before()
        cdef list writers = self.writers, late = []
        cdef native.Parcel* parcels = self.parcels.data()
        cdef size_t i, sent, n = len(writers)
        cdef Writer writer
        if not n:
            return 0
        for i in range(n):
            writer = <Writer>writers[i]
            writer.parcel = -1
            writer.written += parcels[i].data.size()
            parcels[i].fd = writer.socket if writer._direct() else -1
            parcels[i].sent = 0
        with nogil:
            self.ring.send(parcels, n)
        # The transports may call back, and more be gathered: all that is here is put in order before.
        for i in range(n):
            sent = max(parcels[i].sent, 0)
            if sent < parcels[i].data.size():
                late.append((writers[i], PyBytes_FromStringAndSize(parcels[i].data.data() + sent,
                                                                 parcels[i].data.size() - sent)))
            parcels[i].data.clear()
            if parcels[i].data.capacity() > MOST_KEPT_BYTES:
                parcels[i].data.shrink_to_fit()
        self.writers = []
        for writer, rest in late:
            writer._hand_on(rest)
        return 0


cdef class Writer:
    def __cinit__(self):
        self.socket = self.parcel = -1

    def attach(self, transport):
        self._transport = transport

    def flushed(self):
        # Whatever is asked of it, or done to it, comes after what was sent before.
        if self.parcel >= 0:
            self.batch.flush()
        self.doubtful = True
        return self._transport

    @property
    def open(self):
        return self._transport is not None

    def write(self, bytes data not None):
        self._write(data)

    def stream(self, bytes data not None):
        self._stream(data)

    cdef string* _room(self) except? NULL:
        """Where bytes that are to be sent next are put. NULL: nothing is gathered, or not for this one."""
        if self.batch is None or not self.batch.gathering or self._transport is None or self.stalled:
            return NULL
        if self.parcel < 0:
            self.parcel = self.batch._add(self)
        return &self.batch.parcels[self.parcel].data

    cdef bint _direct(self) except -1:
        """Whether to send past the transport: while nothing waits in it, as its own way costs more than all else."""
        if self.socket < 0 or self._transport is None:
            return False
        if self.doubtful:
            self.doubtful = self._transport.get_write_buffer_size() or self._transport.is_closing()
        return not self.doubtful

    cdef _write(self, bytes data):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), sent = 0
        cdef string* room = self._room() if size <= MOST_GATHERED_BYTES else NULL
        if room != NULL:
            room.append(PyBytes_AS_STRING(data), size)
            return
        if self.parcel >= 0:
            self.batch.flush()
        if self._transport is None:
            return
        self.written += size
        if self._direct():
            sent = native.send_now(self.socket, PyBytes_AS_STRING(data), size)
            if sent == size:
                return
        self.doubtful = True
        self._transport.write(data[sent:] if sent > 0 else data)

    cdef _stream(self, bytes data):
        if self.stalled:
            self.stream_slowly(data)
        else:
            self._write(data)

    cdef _hand_on(self, bytes rest):
        """What the socket did not take, errors too, is the transport's to handle."""
        if self._transport is None:
            return
        self.doubtful = True
        try:
            self._transport.write(rest)
        except Exception as error:  # a bug of ours must not take the engine's connection along
            self.broke(error)
