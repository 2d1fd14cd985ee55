// SPDX-License-Identifier: Apache-2.0
#include "snapshots/python_types.h"

#include <algorithm>
#include <string_view>

#include "snapshots/allocator_data.h"

namespace memtrace {

namespace {

// tp_flags, Include/object.h: the same from 2.7 to 3.15, but for those of instances (3.11, 3.12).
constexpr uint64_t kManagedWeakref = 1 << 3;
constexpr uint64_t kManagedDict = 1 << 4;
constexpr uint64_t kHeapType = 1 << 9;
constexpr uint64_t kReady = 1 << 12;
constexpr uint64_t kHaveGc = 1 << 14;
constexpr uint64_t kListSubclass = 1 << 25;
constexpr uint64_t kDictSubclass = 1 << 29;
constexpr uint64_t kTypeSubclass = 1u << 31;

constexpr uint64_t kMaxReferences = 1 << 24;  // more, and it is no count but an address or a marker
// _Py_IsImmortal, Include/refcount.h, 3.12 and later: the lower half is negative. What is between is an address: the
// heap of a program at a fixed place begins anywhere in the first GiB and a bit.
constexpr uint64_t kImmortal = 1ull << 31;
constexpr size_t kMaxKnown = 1 << 17;         // addresses; what comes later is no type
constexpr size_t kMaxTypes = 1 << 14;
constexpr size_t kMaxName = 200;
constexpr int kMaxDepth = 4;  // metaclasses of metaclasses

}  // namespace

// The beginning of struct _typeobject.
struct TypeObject {
    uint64_t references;
    uint64_t type;
    uint64_t size;
    uint64_t name;
    int64_t basic_bytes;
    int64_t item_bytes;
    uint64_t others[15];
    uint64_t flags;
    uint64_t more[4];
    int64_t weakrefs_at;
    uint64_t yet_more[5];
    uint64_t base;
};
static_assert(offsetof(TypeObject, name) == 24 && offsetof(TypeObject, flags) == 168 &&
              offsetof(TypeObject, weakrefs_at) == 208 && offsetof(TypeObject, base) == 256);

namespace {

// Include/cpython/{listobject,dictobject,setobject,bytearrayobject}.h, Modules/{arraymodule,mmapmodule}.c, Python 2's
// Include/unicodeobject.h; numpy/core/include/numpy/ndarraytypes.h.
uint32_t buffer_at(std::string_view name, uint64_t flags, const PythonVersion &version) {
    bool is_2 = version.major == 2;
    if (flags & kListSubclass)
        return 24;  // ob_item
    if (flags & kDictSubclass)
        return is_2 ? 40 : 32;  // ma_table; ma_keys
    if (name == "set" || name == "frozenset")
        return 40;  // table
    if (name == "bytearray")
        return is_2 ? 40 : !version.is_at_least(3, 15) ? 32 : 0;  // ob_bytes, which is an object from 3.15 on
    if (name == "array.array" || (is_2 && name == "unicode"))
        return 24;  // ob_item; str
    if (name == "mmap.mmap" || name == "numpy.ndarray")
        return 16;  // data
    return 0;
}

TypeShape shape_of(std::string_view name, uint64_t flags) {
    static constexpr std::pair<std::string_view, TypeShape> kShapes[] = {
        {"list", TypeShape::kList}, {"tuple", TypeShape::kTuple},   {"dict", TypeShape::kDict},
        {"set", TypeShape::kSet},   {"frozenset", TypeShape::kSet}, {"cell", TypeShape::kCell},
    };
    for (auto [known, shape] : kShapes)
        if (name == known && !(flags & kHeapType))
            return shape;
    return TypeShape::kOther;
}

}  // namespace

bool PythonType::is_collected() const {
    return flags & kHaveGc;
}

// Page by page: the one behind its end need not be in memory.
std::optional<std::string> TypeTable::read_name(uint64_t address) const {
    constexpr uint64_t kPage = 4096;
    std::string name;
    while (name.size() < kMaxName && name.find('\0') == std::string::npos) {
        uint64_t at = address + name.size();
        std::string part(std::min<uint64_t>(kMaxName - name.size(), kPage - at % kPage), '\0');
        if (!memory_.read(at, part.data(), part.size()))
            return std::nullopt;
        name += part;
    }
    name.resize(std::min(name.find('\0'), name.size()));
    bool is_text = std::none_of(name.begin(), name.end(),
                                [](char letter) { return static_cast<unsigned char>(letter) < ' ' || letter == 127; });
    return is_text && !name.empty() ? std::optional(name) : std::nullopt;
}

// Whether it is a class made by Python code whose bases are such classes, and at last object: its instances then hold
// what those classes say, and nothing else.
bool TypeTable::is_plain_class(const TypeObject &object, int depth) const {
    constexpr int64_t kObjectBytes = 16;  // sizeof(PyObject)
    if (!(object.flags & kHeapType) || (object.flags & kTypeSubclass) || object.item_bytes)
        return false;
    auto base = memory_.read_value<TypeObject>(object.base);
    if (!base || !(base->flags & kReady))
        return false;
    return base->flags & kHeapType ? depth && is_plain_class(*base, depth - 1)
                                   : !base->base && base->basic_bytes == kObjectBytes;
}

uint32_t TypeTable::read(uint64_t address, int depth) {
    if (!may_be_address(address) || address % 8 || known_.size() >= kMaxKnown || types_.size() >= kMaxTypes)
        return kNone;
    auto object = memory_.read_value<TypeObject>(address);
    if (!object || object->basic_bytes < 16 || object->basic_bytes > (1 << 20) || object->item_bytes < 0 ||
        object->item_bytes > (1 << 20) || !object->references)
        return kNone;
    // A type is an instance of a type of types; the first of these is its own.
    if (object->type == address) {
        if (!(object->flags & kTypeSubclass))
            return kNone;
    } else {
        auto known = known_.find(object->type);
        uint32_t meta = known != known_.end() ? known->second : depth ? read(object->type, depth - 1) : kNone;
        if (meta == kNone || !(types_[meta].flags & kTypeSubclass))
            return kNone;
    }
    PythonType type;
    type.flags = object->flags;
    // Some are used without being made ready (3.9: types.SimpleNamespace), but all have names.
    auto name = read_name(object->name);
    if (!name && !(object->flags & kReady))
        return kNone;
    type.name = name.value_or("[unnamed]");
    if (object->flags & kHaveGc) {
        // struct _gc_head lies before the object, and from 3.11 on two words more in classes made by Python code.
        bool has_words = version_.is_at_least(3, 12)   ? object->flags & (kManagedDict | kManagedWeakref)
                         : version_.is_at_least(3, 11) ? object->flags & kManagedDict
                                                       : false;
        type.object_at = !version_.is_at_least(3, 8) || has_words ? 32 : 16;
    }
    type.shape = shape_of(type.name, type.flags);
    if (is_plain_class(*object, depth)) {
        type.shape = TypeShape::kInstance;
        type.basic_bytes = static_cast<uint32_t>(object->basic_bytes);
        type.weakrefs_at = object->weakrefs_at > 0 ? static_cast<uint32_t>(object->weakrefs_at) : 0;
    }
    type.buffer_at = buffer_at(type.name, type.flags, version_);
    type.maps_buffer = type.name == "mmap.mmap";
    // A metaclass that was read on the way is in the table already.
    auto index = static_cast<uint32_t>(types_.size());
    types_.push_back(std::move(type));
    known_[address] = index;
    return index;
}

uint32_t TypeTable::find(uint64_t address, bool may_read) {
    if (address == last_address_)
        return last_;
    auto known = known_.find(address);
    if (known == known_.end() && !may_read)
        return kNone;
    uint32_t index = kNone;
    if (known != known_.end()) {
        index = known->second;
    } else if (known_.size() < kMaxKnown) {
        index = read(address, kMaxDepth);
        known_[address] = index;
    }
    last_address_ = address;
    last_ = index;
    return index;
}

// A buffer that is not filled may keep what an object left behind that had its place, and have words of its own where the
// collector's were. From 3.8 on these, _gc_next and _gc_prev, are both addresses, or neither; _gc_prev has two flags, and a
// count while it is being collected.
bool TypeTable::is_left_over(std::span<const uint8_t> block, size_t object_at) const {
    constexpr uint64_t kCollecting = 2, kFlags = 7;
    if (object_at != 16 || !version_.is_at_least(3, 8))
        return false;
    uint64_t next = word_at(block, 0), previous = word_at(block, 8);
    if (!next)
        return previous > kFlags;
    return !may_be_address(next) || (!(previous & kCollecting) && !may_be_address(previous));
}

std::optional<IdentifiedObject> TypeTable::identify(std::span<const uint8_t> block) {
    // Up to 3.7 what lies before a collected object may be left from another one, which was alive there: so that comes
    // last. Dead ones come after all that live: they have no references, or from 3.13 on the next one's address
    // instead.
    static constexpr size_t kPlaces[] = {0, 16, 32}, kOldPlaces[] = {32, 0};
    std::span<const size_t> places = kPlaces;
    if (!version_.is_at_least(3, 8))
        places = kOldPlaces;
    for (bool is_dead : {false, true}) {
        for (size_t at : places) {
            if (block.size() < at + 16)
                continue;
            uint64_t references = word_at(block, at), address = word_at(block, at + 8);
            if (!may_be_address(address) || address % 8)
                continue;
            // From 3.12 on the count is the lower half.
            bool has_halves = version_.is_at_least(3, 12);
            uint64_t count = has_halves ? references & UINT32_MAX : references;
            bool is_immortal = has_halves && count >= kImmortal;
            if (is_dead != (count == 0 || (has_halves && (references >> 32 & 0xffff))) ||
                (!is_dead && !is_immortal && count > kMaxReferences))
                continue;
            uint32_t type = find(address, !is_dead);
            if (type != kNone && types_[type].object_at == at && !is_left_over(block, at))
                return IdentifiedObject{type, static_cast<uint32_t>(std::min<uint64_t>(count, UINT32_MAX)), is_dead};
        }
    }
    return std::nullopt;
}

}  // namespace memtrace
