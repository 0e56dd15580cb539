// Shows the Chinese tooltips of Infinite Talk's nodes when ComfyUI speaks Chinese. The texts come with the nodes
// themselves (`tooltip_zh` beside `tooltip` in each input's options), so nodes of other packs are never touched.

import { app } from "../../scripts/app.js";

function speaksChinese() {
  const chosen = app.extensionManager?.setting?.get?.("Comfy.Locale") ?? navigator.language ?? "en";
  return String(chosen).toLowerCase().startsWith("zh");
}

app.registerExtension({
  name: "InfiniteTalk.Tooltips",
  async beforeRegisterNodeDef(_nodeType, nodeData) {
    if (!speaksChinese()) return;
    for (const section of ["required", "optional"]) {
      for (const entry of Object.values(nodeData.input?.[section] ?? {})) {
        const options = Array.isArray(entry) ? entry[1] : undefined;
        if (options?.tooltip_zh) options.tooltip = options.tooltip_zh;
      }
    }
  },
});
