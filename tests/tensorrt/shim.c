/* What the TensorRT Python bindings (10.0 to 11.4) look for when they are loaded, and nothing behind it: every call
 * answers "there is none". Enough to import the real bindings and read their classes, attributes and signatures; no
 * part of TensorRT is in here. The names are those that the dynamic linker reports as undefined. */
#include <stdint.h>

#define NOTHING(name, ...) void *name(__VA_ARGS__) { return 0; }

NOTHING(createInferBuilder_INTERNAL, void *logger, int32_t version)
NOTHING(createInferRuntime_INTERNAL, void *logger, int32_t version)
NOTHING(createInferRefitter_INTERNAL, void *engine, void *logger, int32_t version)
NOTHING(createNvOnnxParser_INTERNAL, void *network, void *logger, int version)
NOTHING(createNvOnnxParserRefitter_INTERNAL, void *refitter, void *logger, int32_t version)
NOTHING(getPluginRegistry, void)
NOTHING(getBuilderPluginRegistry, int32_t capability)

int getNvOnnxParserVersion(void) { return 0; }
_Bool initLibNvInferPlugins(void *logger, const char *name) { return 1; }
