// The one user of the clang and LLVM libraries.
#include "backend-bpf/clang_module/module.h"

#include <clang/Basic/Diagnostic.h>
#include <clang/Basic/FileManager.h>
#include <clang/Basic/SourceManager.h>
#include <clang/CodeGen/CodeGenAction.h>
#include <clang/Frontend/CompilerInstance.h>
#include <clang/Frontend/CompilerInvocation.h>
#include <llvm/Passes/PassPlugin.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/VirtualFileSystem.h>
#include <llvm/Support/raw_ostream.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

extern "C" {
void LLVMInitializeBPFTargetInfo();
void LLVMInitializeBPFTarget();
void LLVMInitializeBPFTargetMC();
void LLVMInitializeBPFAsmPrinter();
}

// The pass pipeline names Polly's entry point; Polly itself is not wanted for BPF.
llvm::PassPluginLibraryInfo getPollyPluginInfo() {
  return {LLVM_PLUGIN_API_VERSION, "no-polly", "0", [](llvm::PassBuilder&) {}};
}

namespace {

constexpr const char* kFolder = "/policyc";
constexpr const char* kFile = "/policyc/policy.bpf.c";

// Keeps every diagnostic as a line of text.
class Collector : public clang::DiagnosticConsumer {
 public:
  void HandleDiagnostic(clang::DiagnosticsEngine::Level level,
                        const clang::Diagnostic& info) override {
    clang::DiagnosticConsumer::HandleDiagnostic(level, info);
    llvm::SmallString<256> message;
    info.FormatDiagnostic(message);
    if (info.hasSourceManager() && info.getLocation().isValid()) {
      const auto place = info.getSourceManager().getPresumedLoc(info.getLocation());
      if (place.isValid()) {
        text += std::string(place.getFilename()) + ":" + std::to_string(place.getLine()) + ":" +
                std::to_string(place.getColumn()) + ": ";
      }
    }
    text += level >= clang::DiagnosticsEngine::Error ? "error: " : "warning: ";
    text += message.str().str() + "\n";
  }

  std::string text;
};

char* to_malloc(const char* bytes, std::size_t size) {
  char* out = static_cast<char*>(std::malloc(size + 1));
  if (out == nullptr) std::abort();
  std::memcpy(out, bytes, size);
  out[size] = '\0';
  return out;
}

bool compile(llvm::StringRef source, llvm::SmallVectorImpl<char>& object, Collector& said) {
  auto files = llvm::makeIntrusiveRefCnt<llvm::vfs::InMemoryFileSystem>();
  files->setCurrentWorkingDirectory(kFolder);
  files->addFile(kFile, 0, llvm::MemoryBuffer::getMemBufferCopy(source, kFile));
  // Debug information is where BTF comes from. The folder is named, so that no path of the machine
  // gets into the object.
  const std::vector<const char*> arguments = {"-triple",
                                              "bpfel",
                                              "-emit-obj",
                                              "-O2",
                                              "-target-cpu",
                                              "v3",
                                              "-mrelocation-model",
                                              "static",
                                              "-ffreestanding",
                                              "-nostdsysteminc",
                                              "-nobuiltininc",
                                              "-debug-info-kind=constructor",
                                              "-dwarf-version=4",
                                              "-debugger-tuning=gdb",
                                              "-fdebug-compilation-dir=/policyc",
                                              "-main-file-name",
                                              "policy.bpf.c",
                                              "-Wall",
                                              "-Wextra",
                                              "-x",
                                              "c",
                                              kFile};
  clang::CompilerInstance compiler;
  compiler.createDiagnostics(&said, /*ShouldOwnClient=*/false);
  if (!clang::CompilerInvocation::CreateFromArgs(compiler.getInvocation(), arguments,
                                                 compiler.getDiagnostics(), "policyc")) {
    return false;
  }
  compiler.getFrontendOpts().DisableFree = false;
  compiler.getCodeGenOpts().DisableFree = false;
  compiler.setVerboseOutputStream(std::make_unique<llvm::raw_null_ostream>());
  compiler.createFileManager(files);
  compiler.setOutputStream(std::make_unique<llvm::raw_svector_ostream>(object));
  clang::EmitObjAction action;
  return compiler.ExecuteAction(action);
}

}  // namespace

int policyc_clang_compile(const char* source, size_t source_size, char** object,
                          size_t* object_size, char** diagnostics) {
  static const bool ready = [] {
    LLVMInitializeBPFTargetInfo();
    LLVMInitializeBPFTarget();
    LLVMInitializeBPFTargetMC();
    LLVMInitializeBPFAsmPrinter();
    return true;
  }();
  (void)ready;
  *object = nullptr;
  *object_size = 0;
  Collector said;
  llvm::SmallVector<char, 0> bytes;
  const bool ok = compile(llvm::StringRef(source, source_size), bytes, said);
  *diagnostics = to_malloc(said.text.data(), said.text.size());
  if (!ok) return 1;
  *object = to_malloc(bytes.data(), bytes.size());
  *object_size = bytes.size();
  return 0;
}
