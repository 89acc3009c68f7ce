-- bcgraph in Neovim 0.11 or newer: put this file into ~/.config/nvim/plugin/.
vim.filetype.add({ extension = { bcg = "bcgraph" } })

vim.lsp.config("bcgraph", {
  cmd = { "bcgraph", "lsp" },
  filetypes = { "bcgraph" },
  root_markers = { ".git" },
})
vim.lsp.enable("bcgraph")

vim.api.nvim_create_autocmd("FileType", {
  pattern = "bcgraph",
  callback = function()
    vim.bo.commentstring = "# %s"
    vim.bo.shiftwidth = 2
    vim.bo.expandtab = true
    vim.lsp.inlay_hint.enable(true, { bufnr = 0 })
  end,
})
