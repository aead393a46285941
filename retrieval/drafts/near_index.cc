#include "retrieval/drafts/near_index.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/strings.h"
#include "retrieval/drafts/near_index_format.h"
#include "retrieval/files.h"
#include "retrieval/vector_graph.h"
#include "retrieval/vector_rows.h"

namespace octogate::retrieval {
namespace {

constexpr int kLinks = 16;
constexpr int kBuildBreadth = 100;
// Contexts that a search keeps, at least: more find more of the nearest and take longer.
constexpr int kBreadth = 16;

// Calls `take` with every place, in order, at which a token follows another of its document.
template <typename Take>
void ForEachPlace(const DraftStore& store, const Take& take) {
  const auto vocab_size = static_cast<uint32_t>(store.vocab_size());
  for (size_t s = 0; s < store.segments().size(); ++s) {
    const DraftSegment& segment = store.segments()[s];
    bool follows = false;
    for (uint64_t word = 0; word < segment.tokens(); ++word) {
      const bool token = segment.Word(word) < vocab_size;
      if (token && follows) {
        take(DraftPlace{.segment = static_cast<uint32_t>(s), .word = static_cast<uint32_t>(word)});
      }
      follows = token;
    }
  }
}

uint64_t CountPlaces(const DraftStore& store) {
  uint64_t count = 0;
  ForEachPlace(store, [&count](DraftPlace) { ++count; });
  return count;
}

void EmbedPlace(const DraftStore& store, const ContextEmbedding& embedding, DraftPlace place,
                std::span<float, kContextDimension> vector) {
  const DraftSegment& segment = store.segments()[place.segment];
  std::array<int32_t, ContextEmbedding::kMaxWindow> context;
  size_t begin = context.size();
  const size_t end = begin - static_cast<size_t>(embedding.window);
  for (uint64_t word = place.word; word > 0 && begin > end; --word) {
    const uint32_t token = segment.Word(word - 1);
    if (token >= static_cast<uint32_t>(store.vocab_size())) break;
    context[--begin] = static_cast<int32_t>(token);
  }
  embedding.Embed(std::span(context).subspan(begin), vector);
}

struct Contexts {
  std::vector<DraftPlace> places;
  VectorRows rows;

  // False where the store has not as many. Throws std::bad_alloc.
  bool Take(const DraftStore& store, const NearIndex::Info& info) {
    uint64_t number = 0;
    uint64_t contexts = 0;
    ForEachPlace(store, [&](DraftPlace place) {
      if (number++ % info.stride == 0 && contexts++ < info.contexts) places.push_back(place);
    });
    if (contexts != info.contexts) return false;
    rows.dimension = kContextDimension;
    rows.own.resize(places.size() * kContextDimension);
    for (size_t i = 0; i < places.size(); ++i) {
      float* const row = &rows.own[i * kContextDimension];
      EmbedPlace(store, info.embedding, places[i],
                 std::span<float, kContextDimension>(row, kContextDimension));
    }
    return true;
  }
};

absl::Status NoMemory() {
  return absl::ResourceExhaustedError("there is no memory for near matches");
}

// The header at the beginning of `bytes`, of which it is the whole payload that follows.
absl::StatusOr<NearIndexHeader> ReadHeader(std::span<const std::byte> bytes) {
  NearIndexHeader header;
  if (bytes.size() < sizeof(header)) return absl::DataLossError("its header is cut off");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::memcmp(header.magic, kNearIndexMagic, sizeof(header.magic)) != 0) {
    return absl::InvalidArgumentError("it has no near matches");
  }
  if (header.version != kNearIndexVersion) {
    return absl::InvalidArgumentError(absl::StrCat("it has format version ", header.version,
                                                   ", this program reads version ",
                                                   kNearIndexVersion));
  }
  if (header.header_checksum != HeaderChecksum(header)) {
    return absl::DataLossError("its header is damaged");
  }
  const ContextEmbedding embedding = {
      .seed = header.seed, .window = header.window, .decay = header.decay};
  if (!embedding.IsValid() || header.stride == 0 || header.links < kMinNearLinks ||
      header.links > kMaxNearLinks || header.contexts == 0 || header.contexts > kMaxNearContexts ||
      header.neighbors > bytes.size()) {
    return absl::InvalidArgumentError("its header has values that cannot be");
  }
  const std::span<const std::byte> payload = bytes.subspan(sizeof(header));
  if (payload.size() != header.payload_bytes()) {
    return absl::DataLossError(absl::StrCat(
        "it has ", payload.size(), " bytes after its header, not ", header.payload_bytes()));
  }
  if (header.payload_checksum != NearIndexChecksum(payload)) {
    return absl::DataLossError("its checksum is wrong");
  }
  return header;
}

}  // namespace

struct NearIndex::State {
  Info info;
  Contexts contexts;
  std::unique_ptr<VectorLinks> graph;
  // Of a search.
  std::unique_ptr<faiss::VisitedTable> visited;
  std::vector<faiss::Index::idx_t> hits;
  std::vector<float> distances;
  std::vector<std::pair<float, int64_t>> sorted;

  void Search(const float* query, int count, std::vector<DraftPlace>& found);
};

void NearIndex::State::Search(const float* query, int count, std::vector<DraftPlace>& found) {
  const size_t kept =
      std::min(static_cast<size_t>(std::max(count, kBreadth)), contexts.places.size());
  hits.assign(kept, -1);
  distances.assign(kept, 0);
  faiss::SearchParametersHNSW parameters;
  parameters.efSearch = static_cast<int>(kept);
  RowDistances row_distances(&contexts.rows);
  row_distances.set_query(query);
  visited->advance();
  graph->index.hnsw.search(row_distances, static_cast<int>(kept), hits.data(), distances.data(),
                           *visited, &parameters);
  sorted.clear();
  for (size_t i = 0; i < kept; ++i) {
    if (hits[i] >= 0) sorted.emplace_back(distances[i], hits[i]);
  }
  std::sort(sorted.begin(), sorted.end());
  sorted.resize(std::min(sorted.size(), static_cast<size_t>(count)));
  for (const auto& [distance, context] : sorted) {
    found.push_back(contexts.places[static_cast<size_t>(context)]);
  }
}

std::string NearIndexPath(std::string_view store_path) {
  return absl::StrCat(ToAbsl(store_path), ".near");
}

absl::Status WriteNearIndex(const std::string& store_path, const NearIndexOptions& options) {
  if (!options.embedding.IsValid() || options.max_contexts < 1 ||
      options.max_contexts > kMaxNearContexts) {
    return absl::InvalidArgumentError(
        absl::StrCat("near matches have 1 to ", kMaxNearContexts, " contexts of 1 to ",
                     ContextEmbedding::kMaxWindow, " tokens, and a decay above 0 of at most 1"));
  }
  OCTOGATE_ASSIGN_OR_RETURN(const std::unique_ptr<const DraftStore> store,
                            DraftStore::Open(store_path));
  const uint64_t places = CountPlaces(*store);
  if (places == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "there can be no near matches in ", Quoted(store_path, 300), ": nothing follows a token"));
  }
  try {
    NearIndex::Info info = {.embedding = options.embedding};
    info.stride = static_cast<uint32_t>((places + options.max_contexts - 1) / options.max_contexts);
    info.contexts = (places + info.stride - 1) / info.stride;
    Contexts contexts;
    if (!contexts.Take(*store, info)) return absl::InternalError("a draft store has changed");
    VectorLinks links(&contexts.rows, kLinks);
    AddLinks(contexts.rows, 0, contexts.places.size(), kBuildBreadth, 1, &links);
    const faiss::HNSW& graph = links.index.hnsw;
    std::vector<int32_t> payload(graph.levels.begin(), graph.levels.end());
    payload.insert(payload.end(), graph.neighbors.begin(), graph.neighbors.end());
    const Hash128 fingerprint = StoreFingerprint(*store);
    NearIndexHeader header = {
        .version = kNearIndexVersion,
        .stride = info.stride,
        .store_high = fingerprint.high,
        .store_low = fingerprint.low,
        .seed = info.embedding.seed,
        .window = info.embedding.window,
        .decay = info.embedding.decay,
        .links = kLinks,
        .entry = graph.entry_point,
        .contexts = info.contexts,
        .neighbors = graph.neighbors.size(),
        .payload_checksum = NearIndexChecksum(std::as_bytes(std::span(payload)))};
    std::memcpy(header.magic, kNearIndexMagic, sizeof(header.magic));
    header.header_checksum = HeaderChecksum(header);
    // Whoever may read the store may read this.
    struct stat status;
    if (stat(store_path.c_str(), &status) != 0) return SystemError("look at", store_path);
    const std::span<const std::byte> parts[] = {std::as_bytes(std::span(&header, 1)),
                                                std::as_bytes(std::span(payload))};
    return ReplaceFile(NearIndexPath(store_path), status.st_mode & 0777, parts);
  } catch (const std::bad_alloc&) {
    return NoMemory();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("near matches were not made: ", error.what()));
  }
}

absl::StatusOr<std::unique_ptr<NearIndex>> NearIndex::FromBytes(std::span<const std::byte> bytes,
                                                                std::string_view source_name,
                                                                const DraftStore& store) {
  const auto refuse = [&](const absl::Status& status) {
    return Annotate(
        absl::Status(status.code(), absl::StrCat(status.message(),
                                                 "; 'octoctl drafts compact --near-matches' makes "
                                                 "near matches anew")),
        Quoted(source_name, 300));
  };
  absl::StatusOr<NearIndexHeader> header = ReadHeader(bytes);
  if (!header.ok()) return refuse(header.status());
  const Hash128 fingerprint = StoreFingerprint(store);
  if (header->store_high != fingerprint.high || header->store_low != fingerprint.low) {
    return refuse(absl::FailedPreconditionError("it belongs to another state of the store"));
  }
  try {
    auto state = std::make_unique<State>();
    state->info = {
        .embedding = {.seed = header->seed, .window = header->window, .decay = header->decay},
        .contexts = header->contexts,
        .stride = header->stride,
        .file_bytes = bytes.size()};
    if (!state->contexts.Take(store, state->info)) {
      return refuse(absl::InvalidArgumentError("the store has not as many contexts"));
    }
    VectorGraph graph = {.links = header->links, .entry = header->entry};
    graph.levels.resize(header->contexts);
    graph.neighbors.resize(header->neighbors);
    const std::span<const std::byte> payload = bytes.subspan(sizeof(*header));
    const size_t level_bytes = graph.levels.size() * sizeof(int32_t);
    std::memcpy(graph.levels.data(), payload.data(), level_bytes);
    if (!graph.neighbors.empty()) {
      std::memcpy(graph.neighbors.data(), payload.data() + level_bytes,
                  graph.neighbors.size() * sizeof(int32_t));
    }
    absl::StatusOr<std::unique_ptr<VectorLinks>> links = MakeLinks(&state->contexts.rows, &graph);
    if (!links.ok()) return refuse(links.status());
    state->graph = *std::move(links);
    state->visited =
        std::make_unique<faiss::VisitedTable>(static_cast<int>(state->contexts.places.size()));
    return std::unique_ptr<NearIndex>(new NearIndex(std::move(state)));
  } catch (const std::bad_alloc&) {
    return NoMemory();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("near matches were not read: ", error.what()));
  }
}

absl::StatusOr<std::unique_ptr<NearIndex>> NearIndex::Open(const std::string& store_path,
                                                           const DraftStore& store) {
  const std::string path = NearIndexPath(store_path);
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (absl::IsNotFound(file.status())) {
    return absl::NotFoundError(absl::StrCat(Quoted(store_path, 300),
                                            " has no near matches: there is no ", Quoted(path, 300),
                                            ", which 'octoctl drafts build --near-matches' makes"));
  }
  if (!file.ok()) return file.status();
  return FromBytes(file->bytes(), path, store);
}

NearIndex::NearIndex(std::unique_ptr<State> state) : state_(std::move(state)) {}
NearIndex::~NearIndex() = default;

void NearIndex::Find(std::span<const int32_t> sequence, int count,
                     std::vector<DraftPlace>& places) {
  places.clear();
  if (sequence.empty() || count < 1) return;
  std::array<float, kContextDimension> query;
  state_->info.embedding.Embed(sequence, query);
  try {
    state_->Search(query.data(), count, places);
  } catch (const std::exception&) {
    places.clear();  // without them there are fewer drafts
  }
}

int NearIndex::window() const { return state_->info.embedding.window; }

uint64_t NearIndex::bytes() const {
  const State& state = *state_;
  const faiss::HNSW& graph = state.graph->index.hnsw;
  return sizeof(State) + state.contexts.places.capacity() * sizeof(DraftPlace) +
         state.contexts.rows.own.capacity() * sizeof(float) + state.visited->visited.capacity() +
         graph.levels.capacity() * sizeof(int) + graph.offsets.capacity() * sizeof(size_t) +
         graph.neighbors.capacity() * sizeof(int32_t);
}

const NearIndex::Info& NearIndex::info() const { return state_->info; }

DraftPlace NearIndex::PlaceOf(uint64_t context) const { return state_->contexts.places[context]; }

absl::StatusOr<std::unique_ptr<NearMatches>> OpenNearMatches(const std::string& store_path,
                                                             const DraftStore& store) {
  return NearIndex::Open(store_path, store);
}

}  // namespace octogate::retrieval
